"""The lines about consent that `recsys init --shop` writes as comments are right when they are taken in."""

import re
from contextlib import closing
from pathlib import Path

import pytest
from databases import Databases
from queries import execute

from recsys.config.settings import SourceSettings
from recsys.source.catalog import read_users
from recsys.source.reader import open_reader
from recsys.source.shops.contract import SHOPS, source_of

MARIADB = """
CREATE TABLE wp_users (ID BIGINT PRIMARY KEY);
CREATE TABLE wp_usermeta (user_id BIGINT, meta_key VARCHAR(255), meta_value LONGTEXT);
CREATE TABLE wp_mailpoet_subscribers (wp_user_id BIGINT, status VARCHAR(12), deleted_at TIMESTAMP NULL);
INSERT INTO wp_users VALUES (1), (2), (3), (4);
INSERT INTO wp_usermeta VALUES (1, 'mailchimp_woocommerce_is_subscribed', '1'), (1, 'nickname', '0');
INSERT INTO wp_usermeta VALUES (2, 'mailchimp_woocommerce_is_subscribed', '0');
INSERT INTO wp_usermeta VALUES (3, 'mailchimp_woocommerce_is_subscribed', 'archived');
INSERT INTO wp_mailpoet_subscribers VALUES (1, 'subscribed', NULL), (2, 'unsubscribed', NULL), (3, 'bounced', NULL);
INSERT INTO wp_mailpoet_subscribers VALUES (4, 'subscribed', '2026-01-01 00:00:00')
"""
POSTGRESQL = """
CREATE TABLE res_partner (id INTEGER, email VARCHAR, active BOOLEAN);
CREATE TABLE mail_blacklist (email VARCHAR, active BOOLEAN);
CREATE TABLE mailing_contact (id INTEGER, email_normalized VARCHAR);
CREATE TABLE mailing_subscription (contact_id INTEGER, list_id INTEGER, opt_out BOOLEAN);
INSERT INTO res_partner VALUES (1, 'One@x.example', true), (2, 'two@x.example', true), (3, 'three@x.example', true);
INSERT INTO res_partner VALUES (4, 'four@x.example', true);
INSERT INTO mail_blacklist VALUES ('three@x.example', true);
INSERT INTO mailing_contact VALUES (7, 'one@x.example'), (8, 'two@x.example'), (9, 'three@x.example');
INSERT INTO mailing_subscription VALUES (7, 1, NULL), (7, 2, false), (8, 1, false), (8, 2, true), (9, 1, false)
"""
CODE = re.compile(r"^--   (.*(?:\n--   .*)*)\n", re.MULTILINE)


def consent(url: str, query: str) -> dict[str, bool | None]:
    with closing(open_reader(url)) as reader:
        frame = read_users(reader, query, "users", SourceSettings(), own=False).frame
    return dict(zip(frame["user_id"].to_list(), frame["email_consent"].to_list(), strict=True))


def taken_in(query: str, at: int, before: str) -> str:
    """The query with the lines of its comment that are code put before a word."""
    code = CODE.findall(query)[at].replace("\n--   ", "\n")
    return CODE.sub("", query).replace(before, f"{code}\n{before}", 1)


def test_consent_of_woocommerce_is_unknown_until_a_plugin_tells_it(databases: Databases, tmp_path: Path) -> None:
    query = source_of("woocommerce")["users"]
    with databases.fresh("mariadb", tmp_path) as url:
        execute(url, *MARIADB.split(";\n"))
        assert consent(url, query) == dict.fromkeys("1234", None)
        for at in (0, 1):
            assert consent(url, taken_in(query, at, "FROM wp_users")) == {"1": True, "2": False, "3": False, "4": None}


def test_consent_of_odoo_is_a_list_without_an_opt_out_and_no_blacklist(databases: Databases, tmp_path: Path) -> None:
    query = source_of("odoo")["users"]
    with databases.fresh("postgresql", tmp_path) as url:
        execute(url, *POSTGRESQL.split(";\n"))
        assert consent(url, query) == {"1": None, "2": None, "3": False, "4": None}
        assert consent(url, taken_in(query, 0, "END AS")) == {"1": True, "2": False, "3": False, "4": None}


@pytest.mark.parametrize("name", SHOPS)
def test_ids_that_stand_for_guests_are_those_of_the_system(name: str) -> None:
    has_zero = name.startswith(("woocommerce", "magento", "prestashop"))
    assert source_of(name).get("guest_ids") == (("0",) if has_zero else None)
