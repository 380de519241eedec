"""Odoo from 16, with Sales and Inventory. Names there are JSON, one for each language."""

from recsys.source.shops.contract import Shop

_BUYERS = """WITH buyers AS (
    SELECT a.id, CASE WHEN a.has_login OR a.address = '' THEN a.id
                      ELSE MIN(a.id) OVER (PARTITION BY a.address, a.has_login) END AS buyer
    FROM (SELECT p.id, LOWER(TRIM(COALESCE(p.email, ''))) AS address,
                 EXISTS (SELECT 1 FROM res_users u WHERE u.partner_id = p.id) AS has_login
          FROM res_partner p WHERE p.active) a
)"""
_LINES = """FROM sale_order o
JOIN sale_order_line l ON l.order_id = o.id
JOIN buyers b ON b.id = o.partner_id
JOIN product_product v ON v.id = l.product_id
JOIN product_template t ON t.id = v.product_tmpl_id"""
_COUNTS = """-- No quotations, no cancelled orders.
WHERE o.state IN ('sale', 'done')
  -- No sections, down payments, discounts, deliveries, and no parts of a combo.
  AND l.display_type IS NULL AND NOT COALESCE(l.is_downpayment, false) AND l.product_uom_qty > 0
  AND l.price_total >= 0 AND NOT (t.type = 'service' AND NOT COALESCE(t.sale_ok, false))
  AND to_jsonb(l) ->> 'combo_item_id' IS NULL"""

_INTERACTIONS = f"""
-- Each checkout of a guest makes a new partner. Those of one address are one buyer, but nobody who has a login.
{_BUYERS}
SELECT b.buyer AS user_id, v.product_tmpl_id AS item_id, 'purchase' AS event, o.date_order AS timestamp,
       l.price_total / COALESCE(NULLIF(o.currency_rate, 0), 1) AS value
{_LINES}
{_COUNTS}
UNION ALL
-- A line with a credit note, and with nothing invoiced after it: a corrected invoice is no return.
SELECT b.buyer, v.product_tmpl_id, 'return', f.refunded_at, NULL
{_LINES}
JOIN (SELECT r.order_line_id, MAX(m.create_date) AS refunded_at
      FROM sale_order_line_invoice_rel r
      JOIN account_move_line k ON k.id = r.invoice_line_id
      JOIN account_move m ON m.id = k.move_id AND m.move_type = 'out_refund' AND m.state = 'posted'
      GROUP BY r.order_line_id) f ON f.order_line_id = l.id
{_COUNTS}
  AND COALESCE(l.qty_invoiced, 0) <= 0
"""

_ITEMS = """
SELECT t.id AS item_id,
  -- The name in the first company's language, or in English, which is always there.
  COALESCE(t.name ->> (SELECT p.lang FROM res_company c JOIN res_partner p ON p.id = c.partner_id
                       ORDER BY c.id LIMIT 1), t.name ->> 'en_US') AS title,
  REPLACE(k.complete_name, ' / ', ' > ') AS category,
  t.list_price AS price,
  -- Without Inventory, write true AS available.
  (COALESCE(to_jsonb(t) ->> 'is_storable', (t.type = 'product')::text) <> 'true'
   OR COALESCE(to_jsonb(t) ->> 'allow_out_of_stock_order', 'false') = 'true'
   OR COALESCE((SELECT SUM(q.quantity - q.reserved_quantity) FROM stock_quant q
                JOIN stock_location s ON s.id = q.location_id AND s.usage = 'internal'
                JOIN product_product v ON v.id = q.product_id AND v.active
                WHERE v.product_tmpl_id = t.id), 0) > 0) AS available,
  (SELECT g.value || '/web/image/product.template/' || t.id || '/image_512'
   FROM ir_config_parameter g WHERE g.key = 'web.base.url') AS image_url,
  t.create_date AS created_at
FROM product_template t
LEFT JOIN product_category k ON k.id = t.categ_id
-- Archived products keep their row. is_published is there with eCommerce only.
WHERE t.active AND t.sale_ok AND COALESCE(to_jsonb(t) ->> 'is_published', 'true') = 'true'
"""

_USERS = """
-- Odoo itself keeps who must not be mailed, so nobody counts as consenting until your mailing lists say so.
-- With Email Marketing put this before END; in Odoo 16 mailing_subscription is called mailing_contact_list_rel:
--   ELSE (SELECT bool_and(NOT COALESCE(s.opt_out, false)) FROM mailing_subscription s
--         JOIN mailing_contact k ON k.id = s.contact_id WHERE k.email_normalized = LOWER(TRIM(p.email)))
SELECT p.id AS user_id,
       CASE WHEN EXISTS (SELECT 1 FROM mail_blacklist m WHERE m.active AND m.email = LOWER(TRIM(p.email)))
            THEN false END AS email_consent
FROM res_partner p
WHERE p.active
"""

ODOO = Shop(
    url="postgresql://reader:secret@localhost/odoo",
    interactions=_INTERACTIONS,
    items=_ITEMS,
    users=_USERS,
    timezone="UTC",
    notes=(
        "All companies and websites are read. For one, add o.website_id = … to both parts of interactions.",
        "Sales at a till are in pos_order and pos_order_line; add them with UNION ALL if you use Point of Sale.",
        "Prices are those of the product, without price lists.",
    ),
)
