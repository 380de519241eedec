"""The keys that `test_config_keys.py` does not change itself, and the tests that do."""

SCHEDULER, ALERTS = "integration/jobs/test_scheduler.py", "integration/jobs/test_alerts.py"
CONFIG = "unit/config/test_config.py"
REVIEWS = "integration/source/test_reviews.py"
INCREMENTAL = "integration/source/test_incremental.py"
GUARDS, LISTS = "unit/guards/test_judge.py", "unit/guards/test_lists.py"
GUARD_BOUNDS = (
    *("max_silence_hours", "max_volume_drop", "max_volume_factor", "max_day_change", "max_past_change"),
    *("max_repeated", "max_catalog_drop", "max_catalog_growth", "max_available_drop", "max_text_drop"),
    *("max_price_drift", "max_category_drift", "max_user_share", "max_item_share", "max_vanished", "max_new"),
    "max_form_change",
)
# Keys that need processes, a clock or an index of their own: the test that changes them, beside what they set.
ELSEWHERE: dict[str, tuple[str, str]] = {
    "content.int8": ("unit/content/test_content_items.py", "test_the_next_night_encodes_what_is_new"),
    "content.picture_hosts": ("unit/content/test_content_items.py", "test_pictures_of_urls_and_files"),
    "content.picture_network": (
        "unit/content/test_content_items.py",
        "test_encoders_are_a_table_and_say_what_they_lack",
    ),
    "content.pictures": ("unit/content/test_content_items.py", "test_pictures_of_urls_and_files"),
    "content.text_network": (
        "unit/content/test_content_items.py",
        "test_encoders_are_a_table_and_say_what_they_lack",
    ),
    "alerts.away_minutes": (
        "integration/jobs/test_alerts.py",
        "test_a_scheduler_that_starts_while_the_database_is_away_tells_it_and_ends_when_asked",
    ),
    "alerts.by_hand": (
        "integration/jobs/test_alerts.py",
        "test_runs_by_hand_are_told_only_where_that_is_wanted_and_an_interrupted_one_never",
    ),
    "alerts.command": (
        "integration/jobs/test_alerts.py",
        "test_what_one_channel_does_not_take_is_sent_there_later_and_to_no_other_twice",
    ),
    "alerts.late_minutes": (
        "integration/jobs/test_alerts.py",
        "test_a_run_that_does_not_end_or_begin_in_time_is_told_once_and_its_success_is_told",
    ),
    "alerts.shop": (
        "integration/jobs/test_alerts.py",
        "test_an_incident_is_told_once_with_reason_shop_host_and_remedy_and_its_end_once",
    ),
    "alerts.webhook_form": (
        "integration/jobs/test_alert_channels.py",
        "test_slack_gets_one_text",
    ),
    "alerts.smtp_ca_file": (
        "integration/jobs/test_alert_channels.py",
        "test_a_certificate_that_nobody_vouches_for_and_a_server_that_refuses_are_told_without_the_account",
    ),
    "alerts.smtp_password_file": (
        "integration/jobs/test_alert_channels.py",
        "test_the_password_may_lie_in_a_file",
    ),
    "alerts.email_from": (
        "integration/jobs/test_alert_channels.py",
        "test_mail_goes_out_over_tls_with_an_account",
    ),
    "alerts.email_to": (
        "integration/jobs/test_alert_channels.py",
        "test_mail_goes_out_over_tls_with_an_account",
    ),
    "alerts.smtp_host": (
        "integration/jobs/test_alert_channels.py",
        "test_a_certificate_that_nobody_vouches_for_and_a_server_that_refuses_are_told_without_the_account",
    ),
    "alerts.smtp_password": (
        "integration/jobs/test_alert_channels.py",
        "test_mail_goes_out_over_tls_with_an_account",
    ),
    "alerts.smtp_port": (
        "integration/jobs/test_alert_channels.py",
        "test_mail_goes_out_over_tls_with_an_account",
    ),
    "alerts.smtp_security": (
        "integration/jobs/test_alert_channels.py",
        "test_mail_goes_out_over_tls_with_an_account",
    ),
    "alerts.smtp_user": (
        "integration/jobs/test_alert_channels.py",
        "test_mail_goes_out_over_tls_with_an_account",
    ),
    "log.form": (
        "integration/jobs/test_alerts.py",
        "test_the_scheduler_posts_what_its_runs_come_to",
    ),
    "schedule.jobs": (
        "integration/jobs/test_schedule_jobs.py",
        "test_any_command_runs_after_another_job_and_its_outcome_is_in_the_ledger",
    ),
    "schedule.metrics_host": (
        "integration/jobs/test_night_metrics.py",
        "test_the_scheduler_serves_them_from_its_own_port_and_says_when_that_is_taken",
    ),
    "schedule.metrics_port": (
        "integration/jobs/test_night_metrics.py",
        "test_the_scheduler_serves_them_from_its_own_port_and_says_when_that_is_taken",
    ),
    "schedule.reserve_memory_mb": (
        "integration/jobs/test_schedule_jobs.py",
        "test_a_job_does_not_start_without_the_memory_that_its_last_run_needed",
    ),
    "propensity.windows_days": (
        "e2e/test_propensity.py",
        "test_the_night_is_judged_on_eight_past_cuts_and_beats_the_rules",
    ),
    "models.popularity.half_life_days": (
        "e2e/test_config_keys.py",
        "test_of_several_half_lives_popularity_takes_the_one_that_validates_best",
    ),
    "training.processes": (
        "e2e/test_torchrun.py",
        "test_two_processes_are_as_accurate_as_one_within_the_spread_of_seeds",
    ),
    "source.query_timeout_seconds": (
        "integration/source/test_connections.py",
        "test_a_table_that_stays_locked_is_named_instead_of_waited_for",
    ),
    "placements": (
        "integration/api/test_api_placements.py",
        "test_a_placement_of_the_configuration_is_answered_while_it_is_active",
    ),
    "recommendations.exploration": (
        "unit/serving/test_ruled.py",
        "test_new_items_get_the_configured_share_of_the_places_of_for_you",
    ),
    "store.url_file": (CONFIG, "test_a_url_may_lie_in_a_file_of_its_own"),
    "source.url_file": (CONFIG, "test_a_url_may_lie_in_a_file_of_its_own"),
    "alerts.webhook_url_file": (CONFIG, "test_a_url_may_lie_in_a_file_of_its_own"),
    "source.reviews": (REVIEWS, "test_the_shops_query_counts_beside_what_was_imported"),
    "source.best_rating": (REVIEWS, "test_the_shops_query_counts_beside_what_was_imported"),
    "source.incremental": (INCREMENTAL, "test_everything_is_read_for_a_reason_that_is_told"),
    "source.full_read_days": (INCREMENTAL, "test_everything_is_read_for_a_reason_that_is_told"),
    "source.overlap_days": (INCREMENTAL, "test_days_of_the_overlap_are_read_with_those_that_changed"),
    "source.check_nights": (INCREMENTAL, "test_within_some_nights_each_older_day_is_compared_once"),
    "source.updated_at": (INCREMENTAL, "test_a_column_says_at_once_which_old_rows_changed"),
    "source.time_format": (
        "integration/source/test_source.py",
        "test_times_as_text_are_read_in_the_configured_form",
    ),
    "source.available_words": (
        "integration/source/test_unread.py",
        "test_the_configured_words_and_language_are_read",
    ),
    "source.consent_words": (
        "integration/source/test_unread.py",
        "test_a_consent_that_cannot_be_read_is_a_no_and_stays_one",
    ),
    "source.language": (
        "integration/source/test_unread.py",
        "test_the_configured_words_and_language_are_read",
    ),
    "api.max_wait_seconds": (
        "unit/api/test_admission.py",
        "test_quick_requests_may_queue_in_numbers_that_the_configuration_limits",
    ),
    "index.min_recall": (
        "unit/index/test_index.py",
        "test_an_index_below_the_asked_recall_gives_way_to_the_exact_one",
    ),
    "schedule.timeout_minutes": (
        SCHEDULER,
        "test_a_run_over_its_limit_is_ended_with_its_group_has_failed_and_is_not_tried_again",
    ),
    "schedule.grace_seconds": (
        SCHEDULER,
        "test_an_end_asked_for_ends_the_job_with_its_group_and_leaves_the_night_to_the_next_start",
    ),
    "schedule.max_attempts": (
        SCHEDULER,
        "test_a_job_that_dies_every_time_is_given_up_in_the_ledger_after_three_attempts",
    ),
    "gate.max_data_drop": (GUARDS, "test_every_bound_decides"),
    **{f"guards.{key}": (GUARDS, "test_every_bound_decides") for key in GUARD_BOUNDS},
    "guards.max_same_item": (LISTS, "test_one_item_in_everybodys_list_is_refused_and_the_bound_decides"),
    "guards.min_overlap": (LISTS, "test_lists_that_have_nothing_in_common_with_the_live_ones_are_refused"),
    "alerts.webhook_url": (ALERTS, "test_the_scheduler_posts_what_its_runs_come_to"),
    "alerts.max_age_hours": (
        ALERTS,
        "test_a_job_without_success_for_too_long_is_told_once_and_again_each_time_it_has_been_as_long",
    ),
    "audience.consent": (
        "e2e/test_campaign.py",
        "test_assumed_consent_is_stated_everywhere_and_a_no_stays_a_no",
    ),
    "audience.max_unknown_share": (
        "e2e/test_campaign.py",
        "test_suppressed_users_are_left_out_and_unknown_ids_counted",
    ),
    "source.contacts": ("e2e/test_campaign_rules.py", "test_nobody_gets_more_mails_than_the_cap"),
    "audience.control_share": (
        "e2e/test_campaigns.py",
        "test_who_is_held_back_from_every_mailing_is_in_none_and_tells_what_all_of_them_brought",
    ),
    "audience.max_contacts": ("e2e/test_campaign_rules.py", "test_nobody_gets_more_mails_than_the_cap"),
    "audience.contact_days": ("e2e/test_campaign_rules.py", "test_nobody_gets_more_mails_than_the_cap"),
    "audience.lists": (
        "e2e/test_campaign_rules.py",
        "test_every_list_of_the_shop_counts_under_its_own_name_and_so_do_later_entries",
    ),
    "audience.max_consent_age_days": (
        "e2e/test_campaign_rules.py",
        "test_consent_has_a_date_and_a_source_and_may_grow_too_old",
    ),
    "audience.max_lag_days": (
        "e2e/test_campaign_people.py",
        "test_one_newer_event_does_not_change_how_many_will_buy",
    ),
}
