"""Shopware 6, from 6.5. Ids are binary there and hexadecimal here."""

from recsys.source.shops.contract import Shop, guest_in_mysql

_LIVE = "UNHEX('0FA91CE3E96A4BC2BE4BD9CE752C3425')"  # the version of what is sold; others are drafts of an edit
_LANGUAGE = "UNHEX('2FBB5FE2E29A4D70AA5854CE7CE3E20B')"  # the system language, whichever it is
_CURRENCY = "cb7d2554b0ce847cd82f3ac9bd1c0dfca"  # the key of the system currency in a price

_BUYER = f"CASE WHEN c.guest = 1 THEN {guest_in_mysql('oc.email')} ELSE LOWER(HEX(c.id)) END"
# The payload keeps the parent of a variant that was deleted since. Its null is a JSON null, which is no SQL NULL.
_ITEM = """LOWER(COALESCE(HEX(p.parent_id), NULLIF(JSON_UNQUOTE(JSON_EXTRACT(l.payload, '$.parentId')), 'null'),
         HEX(l.product_id), l.referenced_id))"""
_LINES = f"""FROM `order` o
JOIN order_line_item l ON l.order_id = o.id AND l.order_version_id = o.version_id
JOIN order_customer oc ON oc.order_id = o.id AND oc.order_version_id = o.version_id
-- A deleted customer leaves the order without one.
JOIN customer c ON c.id = oc.customer_id
JOIN state_machine_state s ON s.id = o.state_id
LEFT JOIN order_line_item u ON u.id = l.parent_id AND u.version_id = l.version_id
LEFT JOIN product p ON p.id = l.product_id AND p.version_id = {_LIVE}
-- The newest payment counts: a failed one may have been followed by another.
LEFT JOIN order_transaction t ON t.order_id = o.id AND t.order_version_id = o.version_id
  AND NOT EXISTS (SELECT 1 FROM order_transaction n
                  WHERE n.order_id = t.order_id AND n.order_version_id = t.order_version_id
                    AND (n.created_at > t.created_at OR (n.created_at = t.created_at AND n.id > t.id)))
LEFT JOIN state_machine_state ts ON ts.id = t.state_id
WHERE o.version_id = {_LIVE} AND s.technical_name <> 'cancelled'
  AND COALESCE(ts.technical_name, 'open') NOT IN ('cancelled', 'failed', 'unconfirmed')
  -- No promotions, and no parts of a product that is a line itself.
  AND l.type = 'product' AND COALESCE(u.type, '') <> 'product' AND l.quantity > 0"""

_INTERACTIONS = f"""
SELECT {_BUYER} AS user_id,
       {_ITEM} AS item_id,
       'purchase' AS event, o.order_date_time AS timestamp,
       l.total_price / COALESCE(NULLIF(o.currency_factor, 0), 1) AS value
{_LINES}
UNION ALL
-- An order whose payment was refunded.
SELECT {_BUYER},
       {_ITEM},
       'return', COALESCE(t.updated_at, t.created_at), NULL
{_LINES}
  AND ts.technical_name IN ('refunded', 'chargeback')
"""

_ITEMS = f"""
SELECT LOWER(HEX(p.id)) AS item_id, n.name AS title,
  (SELECT CONCAT_WS(' > ', CASE WHEN k.level > 2 THEN un.name END, kn.name)
   FROM product_category pc
   JOIN category k ON k.id = pc.category_id AND k.version_id = pc.category_version_id AND k.level > 1
   JOIN category_translation kn
     ON kn.category_id = k.id AND kn.category_version_id = k.version_id AND kn.language_id = {_LANGUAGE}
   LEFT JOIN category_translation un
     ON un.category_id = k.parent_id AND un.category_version_id = k.version_id AND un.language_id = {_LANGUAGE}
   WHERE pc.product_id = p.id AND pc.product_version_id = p.version_id
   ORDER BY k.level DESC, k.id LIMIT 1) AS category,
  m.name AS brand,
  -- With tax, in the system currency; of a product with variants that of the product.
  CAST(JSON_UNQUOTE(JSON_EXTRACT(p.price, '$.{_CURRENCY}.gross')) AS DECIMAL(20, 6)) AS price,
  -- A product with variants is available when one of them is.
  COALESCE((SELECT MAX(v.available) FROM product v WHERE v.parent_id = p.id AND v.version_id = p.version_id
              AND COALESCE(v.active, 1) = 1), p.available) AS available,
  (SELECT CONCAT((SELECT MIN(d.url) FROM sales_channel_domain d), '/', f.path)
   FROM product_media pm JOIN media f ON f.id = pm.media_id
   WHERE pm.id = p.product_media_id AND pm.version_id = p.version_id) AS image_url,
  p.created_at
FROM product p
LEFT JOIN product_translation n
  ON n.product_id = p.id AND n.product_version_id = p.version_id AND n.language_id = {_LANGUAGE}
LEFT JOIN product_manufacturer_translation m ON m.product_manufacturer_id = p.product_manufacturer_id
  AND m.product_manufacturer_version_id = p.version_id AND m.language_id = {_LANGUAGE}
WHERE p.version_id = {_LIVE} AND p.parent_id IS NULL AND p.active = 1
  AND EXISTS (SELECT 1 FROM product_visibility w
              WHERE w.product_id = p.id AND w.product_version_id = p.version_id)
"""

_USERS = """
-- Consent: confirmed for one sales channel and withdrawn in none.
SELECT LOWER(HEX(c.id)) AS user_id,
       COALESCE(MAX(r.status IN ('optIn', 'direct')) = 1 AND MAX(r.status = 'optOut') = 0, 0) AS email_consent
FROM customer c
LEFT JOIN newsletter_recipient r ON r.email = c.email
WHERE c.guest = 0 AND c.active = 1
GROUP BY c.id
"""

SHOPWARE = Shop(
    url="mariadb://reader:secret@localhost/shopware",
    interactions=_INTERACTIONS,
    items=_ITEMS,
    users=_USERS,
    timezone="UTC",
    notes=(
        "All sales channels are read. For one, add o.sales_channel_id = UNHEX('…') to both parts of interactions.",
        "Names are those of the system language; the table language has the ids of others.",
        "Returns of single lines are in tables of the commercial edition (order_return); add them if you have it.",
    ),
)
