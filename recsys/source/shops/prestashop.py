"""PrestaShop 1.7, 8 and 9."""

from recsys.source.shops.contract import Shop, guest_in_mysql

_BUYER = f"CASE WHEN c.is_guest = 1 THEN {guest_in_mysql('c.email')} ELSE c.id_customer END"
_LINES = """FROM {prefix}orders o
JOIN {prefix}order_detail d ON d.id_order = o.id_order
-- Cancelled, refunded, failed and unpaid orders are neither paid nor logable.
JOIN {prefix}order_state s ON s.id_order_state = o.current_state AND (s.paid = 1 OR s.logable = 1)
-- A deleted customer is marked or missing; the module for data protection gives all erased orders to one customer.
JOIN {prefix}customer c ON c.id_customer = o.id_customer AND c.deleted = 0
  AND c.email NOT IN ('anonymous@psgdpr.com', 'anonymous@anonymous.com')
WHERE d.product_id > 0 AND d.product_quantity > 0"""

_INTERACTIONS = f"""
-- product_id is the product, product_attribute_id the variant. A pack is one line.
SELECT {_BUYER} AS user_id, d.product_id AS item_id,
       'purchase' AS event, o.date_add AS timestamp, d.total_price_tax_incl / o.conversion_rate AS value
{_LINES}
UNION ALL
-- A line of which everything came back. One unit may be counted in both columns.
SELECT {_BUYER}, d.product_id, 'return',
       COALESCE((SELECT MAX(r.date_add) FROM {{prefix}}order_slip r
                 JOIN {{prefix}}order_slip_detail l ON l.id_order_slip = r.id_order_slip
                 WHERE l.id_order_detail = d.id_order_detail), o.date_upd), NULL
{_LINES}
  AND GREATEST(d.product_quantity_refunded, d.product_quantity_return) >= d.product_quantity
"""


def _setting(name: str) -> str:
    """SQL of a setting of the whole installation."""
    return (
        f"(SELECT g.value FROM {{prefix}}configuration g WHERE g.name = '{name}'\n"
        "   AND g.id_shop IS NULL AND g.id_shop_group IS NULL ORDER BY g.id_configuration LIMIT 1)"
    )


_ITEMS = f"""
SELECT p.id_product AS item_id, n.name AS title,
  CONCAT_WS(' > ', CASE WHEN k.level_depth > 2 THEN up.name END, kl.name) AS category,
  m.name AS brand,
  -- With the tax of the shop's own country, and with the default variant's surcharge; without discounts.
  (ps.price + COALESCE(v.price, 0)) * (1 + COALESCE(
    (SELECT MAX(t.rate) FROM {{prefix}}tax_rule r JOIN {{prefix}}tax t ON t.id_tax = r.id_tax
     WHERE r.id_tax_rules_group = ps.id_tax_rules_group AND t.active = 1 AND t.deleted = 0 AND r.id_state = 0
       AND r.id_country = {_setting("PS_COUNTRY_DEFAULT")}), 0) / 100) AS price,
  -- out_of_stock: 0 refuses orders, 1 takes them, 2 does as the shop does.
  COALESCE((SELECT MAX(a.quantity > 0 OR a.out_of_stock = 1 OR (a.out_of_stock = 2 AND
     {_setting("PS_ORDER_OUT_OF_STOCK")} = '1'))
   FROM {{prefix}}stock_available a WHERE a.id_product = p.id_product AND a.id_product_attribute = 0), 0)
   OR COALESCE({_setting("PS_STOCK_MANAGEMENT")}, '1') = '0' AS available,
  CONCAT('https://', {_setting("PS_SHOP_DOMAIN_SSL")}, '/', i.id_image, '-home_default/',
   n.link_rewrite, '.jpg') AS image_url,
  p.date_add AS created_at
FROM {{prefix}}product p
JOIN {{prefix}}product_shop ps ON ps.id_product = p.id_product AND ps.id_shop = p.id_shop_default
LEFT JOIN {{prefix}}product_lang n ON n.id_product = p.id_product AND n.id_shop = ps.id_shop
  AND n.id_lang = {_setting("PS_LANG_DEFAULT")}
LEFT JOIN {{prefix}}product_attribute_shop v
  ON v.id_product = p.id_product AND v.id_shop = ps.id_shop AND v.default_on = 1
LEFT JOIN {{prefix}}category k ON k.id_category = ps.id_category_default
LEFT JOIN {{prefix}}category_lang kl
  ON kl.id_category = k.id_category AND kl.id_shop = ps.id_shop AND kl.id_lang = n.id_lang
LEFT JOIN {{prefix}}category_lang up
  ON up.id_category = k.id_parent AND up.id_shop = ps.id_shop AND up.id_lang = n.id_lang
LEFT JOIN {{prefix}}manufacturer m ON m.id_manufacturer = p.id_manufacturer
LEFT JOIN {{prefix}}image i ON i.id_product = p.id_product AND i.cover = 1
-- state 0 is a product that nobody has saved yet.
WHERE p.state = 1 AND ps.active = 1 AND ps.available_for_order = 1 AND ps.visibility <> 'none'
"""

_USERS = """
-- newsletter is the shop's own mail; optin would be mail of its partners.
SELECT c.id_customer AS user_id, c.newsletter AS email_consent, c.id_shop AS shop
FROM {prefix}customer c
WHERE c.deleted = 0 AND c.active = 1 AND c.is_guest = 0
  AND c.email NOT IN ('anonymous@psgdpr.com', 'anonymous@anonymous.com')
"""

PRESTASHOP = Shop(
    url="mariadb://reader:secret@localhost/prestashop",
    interactions=_INTERACTIONS,
    items=_ITEMS,
    users=_USERS,
    prefix="ps_",
    guest_ids=("0",),
    notes=(
        "PrestaShop writes times in the shop's own zone: set timezone to the one in International > Localization.",
        "All shops of a multistore are read. For one, add o.id_shop = … to both parts of interactions.",
        "A product has the name, price and state of its default shop, in the default language.",
    ),
)
