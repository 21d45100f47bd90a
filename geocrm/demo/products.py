"""The catalogue: six categories, what is in them, what it costs."""

from __future__ import annotations

import pandas as pd

CATEGORIES = ["Hike & Camp", "Climb", "Ride", "Snow", "Clothing & Footwear", "Service & Rental"]

# category → name, list price in USD (2024), cost as a share of it, how often bought relative to the others
_RANGE: dict[str, list[tuple[str, float, float, float]]] = {
    "Hike & Camp": [
        ("Cairn 2 Tent", 349.0, 0.54, 3),
        ("Cairn 4 Family Tent", 529.0, 0.55, 2),
        ("Basin 20°F Sleeping Bag", 229.0, 0.5, 4),
        ("Basin 0°F Sleeping Bag", 339.0, 0.52, 2),
        ("Ridgeline 55 Pack", 249.0, 0.51, 4),
        ("Daytrip 22 Pack", 98.0, 0.46, 8),
        ("Featherlight Sleeping Pad", 139.0, 0.48, 5),
        ("Two-Burner Camp Stove", 119.0, 0.57, 4),
        ("Isobutane Canister 230 g", 7.95, 0.62, 22),
        ("Trail Mug", 18.5, 0.42, 14),
        ("Water Filter", 44.95, 0.5, 9),
        ("Headlamp 400", 54.95, 0.47, 10),
        ("Trekking Poles, pair", 129.0, 0.5, 6),
        ("Freeze-dried Dinner", 12.95, 0.6, 26),
        ("Bear Canister", 84.0, 0.58, 3),
        ("Colorado Trail Map Set", 29.95, 0.55, 6),
        ("Camp Chair", 69.0, 0.49, 7),
        ("Dry Bag 20 L", 34.0, 0.45, 8),
        ("First Aid Kit, Group", 64.0, 0.52, 4),
        ("Cooler 35", 219.0, 0.56, 3),
    ],
    "Climb": [
        ("Single Rope 9.8 mm, 60 m", 219.0, 0.55, 4),
        ("Half Rope Pair 8.2 mm, 60 m", 379.0, 0.56, 1.5),
        ("Ascent Harness", 84.95, 0.5, 5),
        ("Quickdraw Set of 6", 109.0, 0.53, 5),
        ("Cam, finger size", 84.95, 0.56, 4),
        ("Belay Device", 34.95, 0.5, 6),
        ("Chalk, 300 g", 13.95, 0.44, 20),
        ("Sandstone Climbing Shoe", 149.0, 0.52, 7),
        ("Gym Climbing Shoe", 99.0, 0.5, 7),
        ("Helmet, foam", 79.95, 0.51, 5),
        ("Crash Pad", 269.0, 0.55, 2),
        ("Ice Tool", 289.0, 0.57, 1.2),
        ("Crampons", 199.0, 0.55, 1.5),
        ("Locking Carabiner", 18.95, 0.49, 14),
        ("Desert Towers Guidebook", 39.95, 0.6, 4),
        ("Climbing Holds, set of 30", 189.0, 0.5, 2.5),
    ],
    "Ride": [
        ("Slickrock 29 Trail Bike", 2899.0, 0.64, 1.2),
        ("Gravel Bike Paintbrush", 2199.0, 0.65, 1.2),
        ("Kids Bike 20 in", 389.0, 0.62, 2),
        ("E-Bike Commuter", 2599.0, 0.66, 0.9),
        ("Trail Helmet", 119.0, 0.5, 6),
        ("Tubeless Tire 29 × 2.4", 69.95, 0.52, 12),
        ("Tire Sealant", 17.95, 0.5, 15),
        ("Inner Tube", 8.95, 0.42, 22),
        ("Brake Pads", 24.95, 0.45, 12),
        ("Chain 12-speed", 44.95, 0.52, 9),
        ("Hydration Vest 6 L", 109.0, 0.5, 5),
        ("Bike Rack, hitch", 449.0, 0.58, 2),
        ("Floor Pump", 54.95, 0.51, 6),
        ("Multi-tool", 32.0, 0.47, 8),
        ("Bike Light Set", 64.95, 0.5, 6),
        ("Chamois Shorts", 89.0, 0.46, 7),
    ],
    "Snow": [
        ("All-Mountain Ski", 699.0, 0.6, 3),
        ("Touring Ski", 799.0, 0.6, 2),
        ("Snowboard", 499.0, 0.59, 2.5),
        ("Ski Boot", 549.0, 0.57, 4),
        ("Nordic Ski Set", 449.0, 0.58, 2),
        ("Snowshoes", 189.0, 0.52, 4),
        ("Avalanche Transceiver", 379.0, 0.6, 2),
        ("Probe and Shovel Set", 119.0, 0.53, 3),
        ("Goggles", 129.0, 0.46, 7),
        ("Ski Socks", 26.95, 0.42, 18),
        ("Hand Warmers, 40 pairs", 29.95, 0.55, 14),
        ("Ski Wax", 15.95, 0.45, 12),
        ("Climbing Skins", 199.0, 0.55, 2),
        ("Ski Helmet", 149.0, 0.5, 6),
        ("Kids Ski Set", 299.0, 0.58, 3),
    ],
    "Clothing & Footwear": [
        ("Storm Shell Jacket", 329.0, 0.47, 5),
        ("Down Sweater", 249.0, 0.46, 6),
        ("Fleece Quarter-Zip", 89.0, 0.42, 10),
        ("Merino Base Layer", 94.95, 0.43, 10),
        ("Sun Hoody", 69.0, 0.41, 11),
        ("Hiking Pants", 84.95, 0.43, 9),
        ("Trail Runner", 139.0, 0.5, 11),
        ("Mid Hiking Boot", 199.0, 0.52, 8),
        ("Insulated Winter Boot", 179.0, 0.52, 5),
        ("Wool Socks", 22.95, 0.4, 24),
        ("Beanie", 29.0, 0.38, 12),
        ("Work Gloves, leather", 39.95, 0.45, 7),
        ("Insulated Gloves", 74.95, 0.46, 7),
        ("Rain Poncho", 24.95, 0.4, 5),
        ("Sandals", 109.0, 0.5, 6),
        ("Embroidered Team Vest", 79.0, 0.48, 4),
        ("Kids Snowsuit", 139.0, 0.48, 4),
    ],
    "Service & Rental": [
        ("Bike Tune-up", 119.0, 0.41, 10),
        ("Bike Overhaul", 329.0, 0.45, 3),
        ("Ski Tune and Wax", 59.0, 0.35, 14),
        ("Boot Fitting", 79.0, 0.3, 6),
        ("Season Ski Rental, adult", 199.0, 0.38, 6),
        ("Season Ski Rental, child", 139.0, 0.38, 7),
        ("Bike Rental, day", 79.0, 0.33, 8),
        ("Tent Rental, weekend", 58.0, 0.33, 5),
        ("Avalanche Course, level 1", 495.0, 0.55, 2),
        ("Climbing Wall Inspection", 640.0, 0.5, 0.8),
        ("Repair Labor, hour", 85.0, 0.42, 9),
        ("Warranty Sewing", 35.0, 0.5, 4),
    ],
}


def catalogue() -> pd.DataFrame:
    """Products: sku, name, category, price and cost (USD, of 2024), popularity within its category (sums to 1)."""
    rows = []
    for number, category in enumerate(CATEGORIES):
        for i, (name, price, cost, often) in enumerate(_RANGE[category]):
            rows.append((f"CW-{number + 1}{i + 1:02d}", name, category, number, price, round(price * cost, 2), often))
    frame = pd.DataFrame(rows, columns=["sku", "name", "category", "category_index", "price", "cost", "popularity"])
    frame["popularity"] /= frame.groupby("category")["popularity"].transform("sum")
    return frame
