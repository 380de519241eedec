"""The words of the sample shop: departments, categories, invented brands, styles, and seasons."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shelf:
    """A category of the lowest level, and the products in it."""

    department: str
    name: str
    nouns: tuple[str, ...]
    price: float  # median, in the shop's currency
    season: int | None = None  # month 1..12 with the highest demand; None: the same all year
    consumable: bool = False  # bought again after some weeks


BRANDS: dict[str, tuple[str, ...]] = {
    "Kitchen": ("Velmora", "Tarnik", "Oskelle", "Brindolo", "Haveno", "Ruskamp"),
    "Home": ("Lumira", "Nordvik & Daughter", "Casperelle", "Ondaro", "Maisonet", "Fernholt"),
    "Garden": ("Grünhain", "Tillmore", "Sprigwell", "Radova", "Hedgerow Lane"),
    "Sports": ("Kestro", "Altivo", "Runmark", "Bergfex & Co", "Swiftline", "Torvena"),
    "Toys": ("Pippolino", "Bauklar", "Zimbo", "Little Otter", "Knobelix"),
    "Beauty": ("Sólea", "Verabelle", "Pure Tansy", "Milcura", "Aquenne"),
    "Pets": ("Waldpfote", "Mr. Whisk", "Nibbleton", "Barkwell", "Felisan"),
    "Food": ("Monte Sera", "Old Mill", "Chaivana", "Kakaomi", "Bon Verger"),
    "Office": ("Scripta", "Papelio", "Klarwerk", "Notabene", "Graphon"),
}

# The words of a style appear in titles. A taste prefers certain shelves, brands and styles.
STYLES: tuple[tuple[str, ...], ...] = (
    ("Classic", "Traditional", "Timeless", "Heritage"),
    ("Nordic", "Minimal", "Pure", "Plain"),
    ("Rustic", "Farmhouse", "Handmade", "Country"),
    ("Colorful", "Rainbow", "Bold", "Happy"),
    ("Professional", "Pro", "Expert", "Precision"),
    ("Eco", "Organic", "Recycled", "Natural"),
    ("Luxury", "Premium", "Golden", "Royal"),
    ("Mini", "Compact", "Travel", "Foldable"),
)

VARIANTS: tuple[str, ...] = (
    *("Sand", "Slate", "Olive", "Cobalt", "Ivory", "Coral", "Graphite", "Mint", "Berry", "Amber", "Small", "Medium"),
    *("Large", "XL", "Set of 2", "Set of 4", "Set of 6", "No. 1", "No. 2", "No. 3", "2nd Edition", "Duo", "Family"),
)

SHELVES: tuple[Shelf, ...] = (
    Shelf("Kitchen", "Cookware", ("Frying Pan", "Casserole", "Wok", "Stock Pot", "Saucepan"), 45),
    Shelf("Kitchen", "Knives", ("Chef's Knife", "Bread Knife", "Paring Knife", "Knife Block"), 38),
    Shelf("Kitchen", "Coffee & Tea Makers", ("French Press", "Teapot", "Espresso Maker", "Milk Frother", "Kettle"), 42),
    Shelf("Kitchen", "Tableware", ("Dinner Plate", "Bowl", "Mug", "Wine Glass", "Serving Platter"), 16),
    Shelf("Kitchen", "Baking", ("Cake Tin", "Rolling Pin", "Cookie Cutter", "Mixing Bowl", "Whisk"), 14, season=12),
    Shelf("Home", "Lighting", ("Table Lamp", "Floor Lamp", "Pendant Light", "String Lights", "Lantern"), 55, season=11),
    Shelf("Home", "Textiles", ("Cushion", "Throw Blanket", "Rug", "Curtain", "Bed Linen"), 35),
    Shelf(
        "Home", "Candles", ("Scented Candle", "Pillar Candle", "Tea Lights", "Reed Diffuser"), 12, 12, consumable=True
    ),
    Shelf("Home", "Storage", ("Basket", "Wall Shelf", "Storage Box", "Coat Rack", "Drawer Organizer"), 24),
    Shelf("Home", "Christmas", ("Advent Calendar", "Bauble Set", "Tree Topper", "Wreath", "Stocking"), 18, season=12),
    Shelf("Garden", "Tools", ("Spade", "Pruning Shears", "Watering Can", "Rake", "Garden Gloves"), 22, season=4),
    Shelf("Garden", "Planters", ("Plant Pot", "Balcony Box", "Hanging Planter", "Raised Bed"), 28, season=4),
    Shelf("Garden", "Seeds", ("Tomato Seeds", "Wildflower Mix", "Herb Seeds", "Tulip Bulbs"), 5, 3, consumable=True),
    Shelf("Garden", "Furniture", ("Garden Chair", "Lounger", "Parasol", "Bistro Table", "Hammock"), 95, season=6),
    Shelf("Garden", "Barbecue", ("Charcoal Grill", "Grill Tongs", "Grill Plate", "Fire Bowl"), 60, season=7),
    Shelf("Sports", "Running", ("Running Shoes", "Running Vest", "Headlamp", "Hydration Belt"), 65, season=4),
    Shelf("Sports", "Yoga", ("Yoga Mat", "Yoga Block", "Foam Roller", "Meditation Cushion"), 30, season=1),
    Shelf("Sports", "Camping", ("Tent", "Sleeping Bag", "Camping Stove", "Backpack", "Folding Chair"), 85, season=7),
    Shelf("Sports", "Winter", ("Ski Gloves", "Sledge", "Thermal Shirt", "Goggles", "Beanie"), 48, season=1),
    Shelf("Sports", "Nutrition", ("Protein Bar", "Energy Gel", "Electrolyte Drink"), 9, consumable=True),
    Shelf("Toys", "Building Blocks", ("Castle Set", "Farm Set", "Block Box", "Marble Run"), 34, season=12),
    Shelf("Toys", "Board Games", ("Strategy Game", "Card Game", "Memory Game", "Quiz Game"), 26, season=12),
    Shelf("Toys", "Puzzles", ("500 Piece Puzzle", "1000 Piece Puzzle", "Wooden Puzzle"), 17, season=11),
    Shelf("Toys", "Soft Toys", ("Teddy Bear", "Rabbit", "Fox", "Otter", "Unicorn"), 21),
    Shelf("Toys", "Outdoor Play", ("Bubble Machine", "Scooter", "Sand Toys", "Kite"), 29, season=6),
    Shelf("Beauty", "Skin Care", ("Day Cream", "Face Serum", "Cleansing Foam", "Face Mask"), 22, consumable=True),
    Shelf("Beauty", "Hair Care", ("Shampoo Bar", "Conditioner", "Hair Oil", "Dry Shampoo"), 11, consumable=True),
    Shelf("Beauty", "Sun Care", ("Sun Lotion SPF 30", "Sun Spray SPF 50", "After Sun"), 14, 7, consumable=True),
    Shelf("Beauty", "Perfume", ("Eau de Parfum", "Eau de Toilette", "Body Mist"), 58),
    Shelf("Pets", "Dog Food", ("Dry Food", "Wet Food Tray", "Chew Sticks", "Training Treats"), 24, consumable=True),
    Shelf("Pets", "Cat Food", ("Kitten Food", "Pouch Multipack", "Crunchy Snack"), 18, consumable=True),
    Shelf("Pets", "Dog Supplies", ("Lead", "Dog Bed", "Harness", "Chew Toy"), 32),
    Shelf("Pets", "Cat Supplies", ("Scratching Post", "Cat Tunnel", "Feather Wand", "Cat Cave"), 36),
    Shelf("Food", "Coffee", ("Espresso Beans", "Filter Coffee", "Decaf Beans", "Coffee Pods"), 13, consumable=True),
    Shelf("Food", "Tea", ("Green Tea", "Earl Grey", "Herbal Infusion", "Chai"), 8, consumable=True),
    Shelf("Food", "Chocolate", ("Dark Chocolate", "Truffles", "Hot Chocolate", "Pralines"), 7, 12, consumable=True),
    Shelf("Food", "Oils & Sauces", ("Olive Oil", "Pesto", "Hot Sauce", "Balsamic Vinegar"), 10, consumable=True),
    Shelf("Office", "Notebooks", ("Notebook", "Planner", "Sketchbook", "Sticky Notes"), 12, season=9),
    Shelf("Office", "Writing", ("Fountain Pen", "Fineliner Set", "Mechanical Pencil", "Brush Pen"), 19, season=9),
    Shelf("Office", "Desk", ("Desk Lamp", "Monitor Stand", "Desk Pad", "Pen Holder", "Laptop Sleeve"), 33),
)

COUNTRIES: tuple[tuple[str, float], ...] = (
    ("DE", 0.5),
    ("AT", 0.15),
    ("CH", 0.1),
    ("FR", 0.1),
    ("NL", 0.1),
    ("DK", 0.05),
)
