"""Magento Open Source 2 and Mage-OS."""

from recsys.source.shops.contract import Shop, guest_in_mysql

_BUYER = f"COALESCE(o.customer_id, {guest_in_mysql('o.customer_email')})"
# A grouped product is no line: its members are, and each tells the group in its options, as JSON since 2.2.
_ITEM = """COALESCE(CASE WHEN i.product_type = 'grouped' AND JSON_VALID(i.product_options) THEN
         JSON_UNQUOTE(JSON_EXTRACT(i.product_options, '$.super_product_config.product_id')) END, i.product_id)"""
_COUNTS = """o.state NOT IN ('canceled', 'pending_payment', 'payment_review')
  AND (o.customer_id IS NOT NULL OR (o.customer_is_guest = 1 AND o.customer_email LIKE '%@%'))
  -- The parent is the configurable product or the bundle, its children are the variant or the parts.
  AND i.parent_item_id IS NULL AND i.product_id IS NOT NULL AND i.qty_ordered > COALESCE(i.qty_canceled, 0)"""

_INTERACTIONS = f"""
-- Members of a grouped product are bought as the group.
SELECT {_BUYER} AS user_id,
       {_ITEM} AS item_id,
       'purchase' AS event, o.created_at AS timestamp,
       i.base_row_total_incl_tax - COALESCE(i.base_discount_amount, 0) AS value
FROM {{prefix}}sales_order o
JOIN {{prefix}}sales_order_item i ON i.order_id = o.entity_id
-- An order without its customer and without a guest's mark belonged to a customer who was deleted.
WHERE {_COUNTS}
UNION ALL
-- A line of which everything was refunded.
SELECT {_BUYER},
       {_ITEM}, 'return', MAX(c.created_at), NULL
FROM {{prefix}}sales_order o
JOIN {{prefix}}sales_order_item i ON i.order_id = o.entity_id
JOIN {{prefix}}sales_creditmemo_item d ON d.order_item_id = i.item_id
JOIN {{prefix}}sales_creditmemo c ON c.entity_id = d.parent_id
WHERE {_COUNTS}
  AND i.qty_refunded > 0 AND i.qty_refunded >= i.qty_ordered - COALESCE(i.qty_canceled, 0)
GROUP BY i.item_id, i.product_id, i.product_type, i.product_options, o.customer_id, o.customer_email
"""


def _value(kind: str, code: str, entity: str = "e.entity_id", of: str = "catalog_product") -> str:
    """SQL of an attribute's value in the default scope (store 0)."""
    return f"""(SELECT v.value FROM {{prefix}}{of}_entity_{kind} v
   JOIN {{prefix}}eav_attribute a ON a.attribute_id = v.attribute_id AND a.attribute_code = '{code}'
   JOIN {{prefix}}eav_entity_type y ON y.entity_type_id = a.entity_type_id AND y.entity_type_code = '{of}'
   WHERE v.entity_id = {entity} AND v.store_id = 0)"""


_ITEMS = f"""
SELECT e.entity_id AS item_id,
  {_value("varchar", "name")} AS title,
  -- The deepest category and the one above it; levels 0 and 1 are the roots.
  (SELECT CONCAT_WS(' > ',
     {_value("varchar", "name", "CASE WHEN k.level > 2 THEN k.parent_id END", "catalog_category")},
     {_value("varchar", "name", "k.entity_id", "catalog_category")})
   FROM {{prefix}}catalog_category_product l
   JOIN {{prefix}}catalog_category_entity k ON k.entity_id = l.category_id AND k.level > 1
   WHERE l.product_id = e.entity_id ORDER BY k.level DESC, k.entity_id LIMIT 1) AS category,
  (SELECT w.value FROM {{prefix}}eav_attribute_option_value w WHERE w.store_id = 0 AND w.option_id =
   {_value("int", "manufacturer")}) AS brand,
  -- Of a configurable product or a bundle the lowest price, with special prices and catalog rules, for a guest.
  COALESCE((SELECT MIN(x.min_price) FROM {{prefix}}catalog_product_index_price x
            WHERE x.entity_id = e.entity_id AND x.customer_group_id = 0),
   {_value("decimal", "price")}) AS price,
  COALESCE((SELECT MAX(s.stock_status) FROM {{prefix}}cataloginventory_stock_status s
            WHERE s.product_id = e.entity_id), 0) AS available,
  CONCAT((SELECT b.value FROM {{prefix}}core_config_data b
          WHERE b.path = 'web/secure/base_url' AND b.scope = 'default'),
   'media/catalog/product', NULLIF({_value("varchar", "image")}, 'no_selection')) AS image_url,
  e.created_at
FROM {{prefix}}catalog_product_entity e
-- Enabled, on a website, and visible by itself: the variants of a configurable product are not.
WHERE EXISTS (SELECT 1 FROM {{prefix}}catalog_product_website z WHERE z.product_id = e.entity_id)
  AND {_value("int", "status")} = 1
  AND {_value("int", "visibility")} <> 1
"""

_USERS = """
-- Consent: subscribed in one store (1) and unsubscribed in none (3).
SELECT c.entity_id AS user_id,
       COALESCE(MAX(s.subscriber_status = 1) = 1 AND MAX(s.subscriber_status = 3) = 0, 0) AS email_consent
FROM {prefix}customer_entity c
LEFT JOIN {prefix}newsletter_subscriber s ON s.customer_id = c.entity_id
WHERE c.is_active = 1
GROUP BY c.entity_id
"""

MAGENTO = Shop(
    url="mariadb://reader:secret@localhost/magento",
    interactions=_INTERACTIONS,
    items=_ITEMS,
    users=_USERS,
    prefix="",
    timezone="UTC",
    guest_ids=("0",),
    notes=(
        "Adobe Commerce: its tables of attribute values have row_id where these queries read entity_id.",
        "All stores are read. For one, add o.store_id = … to both parts of interactions.",
        "Names are those of the default scope. For a store's own, read store_id = … before store_id = 0.",
        "Prices are as the price index has them: with or without tax as the catalog's prices are entered.",
        "Stock is that of the default stock. Other stocks of the Inventory module have tables inventory_stock_….",
    ),
)
