"""WooCommerce: orders in tables of their own (HPOS, the default since 8.2) or among the posts, as before."""

from recsys.source.shops.contract import Shop, guest_in_mysql

# WooCommerce's own reports leave out pending, failed and cancelled orders.
_NO_SALE = "'wc-pending', 'wc-failed', 'wc-cancelled', 'wc-refunded', 'wc-checkout-draft', 'auto-draft', 'trash'"

_POSTS = """(
    SELECT w.ID AS id, w.post_status AS status, w.post_type AS type, w.post_parent AS parent_order_id,
           w.post_date_gmt AS date_created_gmt, c.meta_value AS customer_id, e.meta_value AS billing_email
    FROM {prefix}posts w
    LEFT JOIN {prefix}postmeta c ON c.post_id = w.ID AND c.meta_key = '_customer_user'
    LEFT JOIN {prefix}postmeta e ON e.post_id = w.ID AND e.meta_key = '_billing_email'
    WHERE w.post_type IN ('shop_order', 'shop_order_refund')
)"""


def _interactions(orders: str) -> str:
    buyer = f"CASE WHEN o.customer_id > 0 THEN o.customer_id ELSE {guest_in_mysql('o.billing_email')} END"
    counts = f"""o.type = 'shop_order' AND o.status NOT IN ({_NO_SALE})
  -- An erased customer's orders all have this address; without one a guest is nobody.
  AND (o.customer_id > 0 OR (o.billing_email LIKE '%@%' AND o.billing_email <> 'deleted@site.invalid'))
  -- Product Bundles, Composite Products, Mix and Match: the whole was chosen, its parts came with it.
  AND NOT EXISTS (SELECT 1 FROM {{prefix}}woocommerce_order_itemmeta x
                  WHERE x.order_item_id = i.order_item_id
                    AND x.meta_key IN ('_bundled_by', '_composite_parent', '_mnm_container'))"""
    return f"""
-- A variation is bought as its product: _product_id is the parent, _variation_id the variation.
SELECT {buyer} AS user_id,
       p.meta_value AS item_id, 'purchase' AS event, o.date_created_gmt AS timestamp,
       n.meta_value + COALESCE(t.meta_value, 0) AS value
FROM {orders} o
JOIN {{prefix}}woocommerce_order_items i ON i.order_id = o.id AND i.order_item_type = 'line_item'
JOIN {{prefix}}woocommerce_order_itemmeta p
  ON p.order_item_id = i.order_item_id AND p.meta_key = '_product_id' AND p.meta_value > 0
LEFT JOIN {{prefix}}woocommerce_order_itemmeta n ON n.order_item_id = i.order_item_id AND n.meta_key = '_line_total'
LEFT JOIN {{prefix}}woocommerce_order_itemmeta t ON t.order_item_id = i.order_item_id AND t.meta_key = '_line_tax'
WHERE {counts}
UNION ALL
-- A line of which everything was refunded. A refund of an amount alone names no line and takes nothing back.
SELECT {buyer},
       p.meta_value, 'return', MAX(r.date_created_gmt), NULL
FROM {orders} o
JOIN {orders} r ON r.parent_order_id = o.id AND r.type = 'shop_order_refund'
JOIN {{prefix}}woocommerce_order_items f ON f.order_id = r.id AND f.order_item_type = 'line_item'
JOIN {{prefix}}woocommerce_order_itemmeta m
  ON m.order_item_id = f.order_item_id AND m.meta_key = '_refunded_item_id'
JOIN {{prefix}}woocommerce_order_itemmeta b ON b.order_item_id = f.order_item_id AND b.meta_key = '_qty'
JOIN {{prefix}}woocommerce_order_items i ON i.order_item_id = CAST(m.meta_value AS UNSIGNED) AND i.order_id = o.id
JOIN {{prefix}}woocommerce_order_itemmeta p
  ON p.order_item_id = i.order_item_id AND p.meta_key = '_product_id' AND p.meta_value > 0
JOIN {{prefix}}woocommerce_order_itemmeta q ON q.order_item_id = i.order_item_id AND q.meta_key = '_qty'
WHERE {counts}
GROUP BY o.id, o.customer_id, o.billing_email, i.order_item_id, p.meta_value
HAVING SUM(-b.meta_value) >= MAX(q.meta_value + 0)
"""


def _term(taxonomy: str, names: str) -> str:
    """SQL of the name of a product's deepest term. WordPress keeps & in names as &amp;."""
    return f"""(SELECT REPLACE({names}, '&amp;', '&')
   FROM {{prefix}}term_relationships r
   JOIN {{prefix}}term_taxonomy x ON x.term_taxonomy_id = r.term_taxonomy_id AND x.taxonomy = '{taxonomy}'
   JOIN {{prefix}}terms t ON t.term_id = x.term_id
   LEFT JOIN {{prefix}}term_taxonomy y ON y.term_id = x.parent AND y.taxonomy = x.taxonomy
   LEFT JOIN {{prefix}}terms u ON u.term_id = y.term_id
   WHERE r.object_id = p.ID ORDER BY u.term_id IS NOT NULL DESC, t.term_id LIMIT 1)"""


_ITEMS = f"""
SELECT p.ID AS item_id, REPLACE(p.post_title, '&amp;', '&') AS title,
  {_term("product_cat", "CONCAT_WS(' > ', u.name, t.name)")} AS category,
  {_term("product_brand", "t.name")} AS brand,
  l.min_price AS price, COALESCE(l.stock_status, 'instock') <> 'outofstock' AS available,
  (SELECT CONCAT(s.option_value, '/wp-content/uploads/', f.meta_value)
   FROM {{prefix}}postmeta h
   JOIN {{prefix}}postmeta f ON f.post_id = CAST(h.meta_value AS UNSIGNED) AND f.meta_key = '_wp_attached_file'
   JOIN {{prefix}}options s ON s.option_name = 'siteurl'
   WHERE h.post_id = p.ID AND h.meta_key = '_thumbnail_id' LIMIT 1) AS image_url,
  p.post_date_gmt AS created_at
FROM {{prefix}}posts p
LEFT JOIN {{prefix}}wc_product_meta_lookup l ON l.product_id = p.ID
-- No drafts, no trash, nothing private or hidden from the catalog.
WHERE p.post_type = 'product' AND p.post_status = 'publish' AND p.post_password = ''
  AND NOT EXISTS (SELECT 1 FROM {{prefix}}term_relationships r
                  JOIN {{prefix}}term_taxonomy x ON x.term_taxonomy_id = r.term_taxonomy_id
                  JOIN {{prefix}}terms t ON t.term_id = x.term_id
                  WHERE r.object_id = p.ID AND x.taxonomy = 'product_visibility' AND t.slug = 'exclude-from-catalog')
"""

_USERS = """
-- WooCommerce keeps no consent to mail, so nobody counts as consenting until your newsletter plugin says so.
-- Before FROM put, with MailPoet:
--   , (SELECT MAX(s.status) FROM {prefix}mailpoet_subscribers s
--      WHERE s.wp_user_id = u.ID AND s.deleted_at IS NULL) AS email_consent
-- or with Mailchimp for WooCommerce:
--   , (SELECT MIN(m.meta_value) FROM {prefix}usermeta m
--      WHERE m.user_id = u.ID AND m.meta_key = 'mailchimp_woocommerce_is_subscribed') AS email_consent
SELECT u.ID AS user_id
FROM {prefix}users u
"""


def _shop(orders: str, notes: tuple[str, ...]) -> Shop:
    return Shop(
        url="mariadb://reader:secret@localhost/wordpress",
        interactions=_interactions(orders),
        items=_ITEMS,
        users=_USERS,
        prefix="wp_",
        guest_ids=("0",),
        timezone="UTC",
        notes=(
            *notes,
            "WPML and Polylang keep a product once for each language: map the translations to one id in both queries.",
            "Orders placed as a test look like others: leave them out with WHERE, by their customer or their date.",
        ),
    )


WOOCOMMERCE = _shop(
    "{prefix}wc_orders",
    ("Orders are read from wc_orders. A shop that keeps them among the posts takes `--shop woocommerce-posts`.",),
)
WOOCOMMERCE_POSTS = _shop(
    _POSTS,
    ("Orders are read from the posts. A shop with High-Performance Order Storage takes `--shop woocommerce`.",),
)
