"""Names for people, organisations, streets, and addresses of mail and telephone that belong to nobody.

Telephone numbers end in 555-01xx, which is reserved for fiction; mail goes to domains of RFC 2606 (example.com,
example.org, example.net and the top-level domain .example), so that nothing sent to them reaches anybody.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pandas as pd

Strings = npt.NDArray[np.object_]


def _words(text: str) -> list[str]:
    return [word.replace("_", " ") for word in text.split()]


FIRST_NAMES = _words("""
    Mary Linda Patricia Susan Deborah Barbara Karen Nancy Donna Cynthia Sandra Pamela Sharon Kathleen Carol Diane
    Jennifer Amy Melissa Heather Angela Michelle Kimberly Stephanie Nicole Christina Rebecca Laura Rachel April Erin
    Jessica Ashley Amanda Sarah Samantha Brittany Elizabeth Megan Kayla Lauren Emily Hannah Abigail Madison Olivia
    Maria Guadalupe Rosa Ana Leticia Yolanda Veronica Claudia Marisol Ximena Valeria Camila Dolores Consuelo Esperanza
    Mei Linh Thuy Priya Anjali Sunita Aiko Naomi Leilani Shandiin Nizhoni Dezbah Winona Aiyana Ingrid Astrid Siobhan
    James John Robert Michael David William Richard Thomas Mark Charles Steven Gary Joseph Donald Ronald Kenneth Paul
    Christopher Jason Brian Matthew Eric Scott Jeffrey Kevin Timothy Andrew Joshua Daniel Ryan Justin Brandon Tyler
    Jacob Nicholas Zachary Austin Cody Dylan Logan Ethan Mason Caleb Hunter Colton Wyatt Levi Brigham Parley Heber
    Jose Juan Luis Carlos Miguel Francisco Antonio Ramon Ruben Manuel Diego Mateo Santiago Orlando Eloy Fidel Arturo
    Wei Minh Raj Arjun Kenji Hiro Samir Omar Kwame Tunde Darnell Andre Nathaniel Hastiin Kai Chayton Bjorn Lars Finn
""")
LAST_NAMES = _words("""
    Smith Johnson Williams Brown Jones Miller Davis Anderson Taylor Thomas Moore Jackson Martin Lee Thompson White
    Harris Clark Lewis Robinson Walker Young Allen King Wright Scott Hill Green Adams Nelson Baker Hall Campbell
    Mitchell Carter Roberts Phillips Evans Turner Parker Collins Edwards Stewart Morris Murphy Cook Rogers Morgan
    Cooper Peterson Reed Bailey Bell Kelly Howard Ward Cox Richardson Wood Watson Brooks Bennett Gray Hughes Price
    Myers Long Foster Sanders Ross Powell Sullivan Russell Jenkins Perry Butler Barnes Fisher Henderson Coleman
    Christensen Jensen Larsen Sorensen Hansen Rasmussen Olsen Nielsen Madsen Petersen Lund Bjork Dahl Lindqvist
    Kimball Snow Cannon Whitney Romney Pratt Richards Hatch Bingham Leavitt Huntsman Eccles Tanner Ashworth Barlow
    Martinez Garcia Lopez Hernandez Gonzalez Perez Sanchez Ramirez Torres Flores Rivera Gomez Diaz Reyes Morales Cruz
    Ortiz Gutierrez Chavez Ramos Romero Trujillo Lucero Baca Archuleta Montoya Sandoval Maestas Gallegos Vigil Ortega
    Salazar Medina Jaramillo Quintana Espinoza Padilla Valdez Armijo Luna Otero Tafoya Roybal Apodaca Cordova Duran
    Begay Yazzie Benally Tsosie Nez Tso Bitsui Manygoats Whitehorse Etsitty Chee Cly Lonewolf Redhouse Blackgoat
    Nguyen Tran Le Pham Chen Wang Kim Park Singh Patel Kaur Shah Yamamoto Tanaka Nakamura Okafor Mensah Diallo Haile
    Schmidt Weber Schneider Becker Hoffmann Kowalski Novak Petrov Ivanov Rossi Romano Moretti Dubois Laurent Fournier
    MacLeod Fraser Gallagher Byrne Quinn Donnelly Sheridan Brannigan Kincaid Lockhart Abernathy Thornton Whitaker
    Ballard Stoddard Redd Mackey Perkins Lyman Holyoak Nielson Bundy Iverson Cranston Tolliver Swanson Halvorsen
""")

STREET_NAMES = _words("""
    Main Center Aspen Juniper Cottonwood Pinon Ponderosa Spruce Columbine Sage Lupine Larkspur Yarrow Chokecherry
    Willow Cedar Maple Elm Oak Walnut Cherry Pine Birch Alder Mesa Canyon Ridge Summit Granite Sandstone Quartz Agate
    Prairie Meadow Valley River Creek Spring Lakeview Highland Bluff Butte Overlook Arroyo Vista Alameda Camino_Real
    Elk Antelope Bighorn Falcon Osprey Meadowlark Pronghorn Marmot Kestrel Raven Bluebird Heron
    1st 2nd 3rd 4th 5th 6th 7th 8th 9th 10th 12th 14th 17th 20th 24th 31st Washington Lincoln Jefferson Grant Garfield
    Franklin Madison Monroe Harrison Sheridan Fremont Bridger Powell Carson Pike Evans Logan Crestone Lowell Mineral
    Railroad Depot Mill Orchard Ditch Church School College Park Garden Fairview Sunset Sunrise Rio_Grande Animas
""")
STREET_KINDS = _words("Street Avenue Drive Road Lane Court Way Place Circle")
RURAL_ROADS = _words("""
    State_Highway_9 Old_Stage_Road Ranch_Road Ditch_Camp_Road Sawmill_Road Cemetery_Road Airport_Road Dry_Creek_Road
    Cattle_Guard_Road Reservoir_Road Homestead_Road Wagon_Trail_Road Quarry_Road Pipeline_Road Hay_Meadow_Lane
    Windmill_Lane Stock_Drive Lone_Tree_Road Coal_Mine_Road Grange_Hall_Road Sheep_Camp_Road Badger_Flat_Road
""")

LAND_WORDS = _words("""
    Alpenglow Antler Aspen_Grove Badger_Creek Basin Bearpaw Bighorn Blue_Mesa Boulder_Field Bristlecone Buckhorn Cairn
    Canyon_Rim Cathedral_Peak Chimney_Rock Cinder_Cone Cloud_Peak Copper_Basin Coyote_Bend Crested_Ridge Deer_Park
    Desert_Varnish Devils_Gate Dry_Fork Eagle_Rock East_Fork Elk_Meadow Escalante Falling_Water Fir_Line Flint_Hollow
    Four_Peaks Front_Range Glacier_Lake Gold_Hill Goose_Creek Granite_Park Grand_Mesa Gravel_Bar Green_River Hayden_Pass
    Headwaters High_Desert High_Pass Honeycomb Horseshoe Ice_Lake Iron_Spring Jackrabbit Kingbird La_Plata Larkspur
    Last_Chance Little_Bear Lodgepole Lone_Cone Lost_Creek Mesa_Verde_View Mill_Creek Moose_Flat Needle_Rock North_Fork
    Obsidian Old_Timber Outlook Painted_Hills Paintbrush Palisade Paradox Pinyon Pronghorn Quartzite Rabbit_Ears Raven
    Red_Butte Red_Cliff Rimrock River_Bend Sagebrush Saint_Vrain San_Rafael Sandhill Sawtooth Scree Shadow_Mountain
    Silver_Fork Slickrock Snowmass_View South_Rim Spanish_Peaks Split_Rock Spruce_Hole Stone_Bridge Sundance Swan_Valley
    Talus Tenmile Three_Forks Thunder_Ridge Timberline Trail_Ridge Tumbleweed Twin_Lakes Two_Rivers Uinta_View Vermilion
    Wagon_Wheel Wasatch_Crest West_Elk White_Pine Wild_Iris Wildcat_Hollow Willow_Bend Wind_River Windgate Yellow_Pine
""")

# industry → (share among organisations, endings of its names, what its people do)
INDUSTRIES: dict[str, tuple[float, list[str], list[str]]] = {
    "guiding": (0.17, ["Guides", "Guide Service", "Mountain School", "Expeditions", "River Trips"],
                ["Owner", "Lead Guide", "Operations"]),
    "lodging": (0.17, ["Lodge", "Inn", "Guest Ranch", "Cabins", "Mountain Resort"],
                ["General Manager", "Guest Activities", "Purchasing"]),
    "reseller": (0.14, ["Sports", "Outfitters", "Mountain Shop", "Bike & Ski", "Trading Post"],
                 ["Owner", "Buyer", "Store Lead"]),
    "education": (0.13, ["School District", "Community College", "Charter School", "Outdoor Campus"],
                  ["Athletics Director", "Outdoor Program", "Purchasing"]),
    "club": (0.11, ["Nordic Club", "Cycling Club", "Alpine Club", "Trail Runners", "Search & Rescue"],
             ["President", "Treasurer", "Trip Chair"]),
    "public agency": (0.09, ["County Parks", "Open Space", "Recreation District", "Fire Protection District"],
                      ["Program Director", "Ranger", "Procurement"]),
    "climbing gym": (0.05, ["Climbing", "Boulders", "Climbing Gym"], ["Owner", "Head Setter", "Front Desk Lead"]),
    "corporate": (0.14, ["Brewing", "Energy", "Construction", "Engineering", "Health", "Credit Union"],
                  ["Office Administrator", "Human Resources", "Events"]),
}  # fmt: skip
SIZE_CLASSES = ["1-9", "10-49", "50-249", "250+"]

TOWN_PARTS = _words("""
    North South East West Central Old_Town Riverside Hilltop Midtown Lakeside Eastgate Westgate Northside Southside
    Upper_Valley Lower_Valley Airport_District University_District Mill_District Depot_District
""")

MAIL_DOMAINS = ["example.com", "example.org", "example.net"]


def pick(rng: np.random.Generator, words: list[str], n: int, *, skew: float = 0.0) -> Strings:
    """n words; with `skew` the earlier ones of the list come up more often, as common names do."""
    draws = rng.random(n) ** (1 + skew)
    chosen: Strings = np.array(words, dtype=object)[(draws * len(words)).astype(np.int64)]
    return chosen


def only(rows: npt.NDArray[np.bool_], values: object) -> Strings:
    """`values` (an array of the same length, or one word) where `rows` holds, None elsewhere."""
    made: Strings = np.full(len(rows), None, dtype=object)
    made[rows] = np.broadcast_to(np.asarray(values, dtype=object), len(rows))[rows]
    return made


def phones(rng: np.random.Generator, area_codes: Strings) -> Strings:
    """Telephone numbers that belong to nobody: +1 AAA 555-01xx."""
    last = np.char.zfill(rng.integers(100, 200, len(area_codes)).astype(str), 4).astype(object)
    numbers: Strings = "+1 " + area_codes + " 555-" + last
    return numbers


def slugs(names: Strings) -> Strings:
    """Names as the label of a domain: "Ice Lake Lodge" → "ice-lake-lodge"."""
    return np.array([re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in names], dtype=object)


def mail_local_parts(first: Strings, last: Strings, number: Strings) -> Strings:
    """maria.lopez417: the number keeps them apart."""
    both: Strings = first + "." + last
    return np.array([re.sub(r"[^a-z.]", "", name.lower()) for name in both], dtype=object) + number


def mail_addresses(rng: np.random.Generator, first: Strings, last: Strings, serial: npt.NDArray[np.int64]) -> Strings:
    """One address for each person, unique through the serial number in it."""
    domain = np.array(MAIL_DOMAINS, dtype=object)[rng.integers(len(MAIL_DOMAINS), size=len(first))]
    addresses: Strings = mail_local_parts(first, last, serial.astype(str).astype(object)) + "@" + domain
    return addresses


def organisation_names(rng: np.random.Generator, industry: Strings, city: Strings, county: Strings) -> Strings:
    """Names that fit the industry and often the town: "Durango Nordic Club", "Ice Lake Lodge"."""
    n = len(industry)
    land = pick(rng, LAND_WORDS, n)
    surname = pick(rng, LAST_NAMES, n)
    from_town, from_family = rng.random(n), rng.random(n)
    ending = np.empty(n, dtype=object)
    for kind, (_, endings, _) in INDUSTRIES.items():
        rows = industry == kind
        ending[rows] = pick(rng, endings, int(rows.sum()))
    local = np.isin(industry, ["education", "club", "public agency"])
    first = np.where(from_town < np.where(local, 0.75, 0.12), city, np.where(from_family < 0.2, surname, land))
    first = np.where(ending == "County Parks", county, first)
    return np.asarray(first.astype(object) + " " + ending, dtype=object)


def tell_apart(names: Strings, city: Strings) -> Strings:
    """Add the town to names that occur twice ("Rimrock Lodge, Taos"), then a part of the town, then a number."""
    frame = pd.DataFrame({"name": names, "city": city})
    twice = frame["name"].duplicated(keep=False).to_numpy()
    frame.loc[twice, "name"] = frame["name"] + ", " + frame["city"]
    nth = frame.groupby("name").cumcount().to_numpy()
    part = np.array(TOWN_PARTS, dtype=object)[nth % len(TOWN_PARTS)]
    frame.loc[nth > 0, "name"] = (frame["name"] + " " + part)[nth > 0]
    nth = frame.groupby("name").cumcount().to_numpy()
    frame.loc[nth > 0, "name"] = frame["name"] + " No. " + pd.Series(nth + 1).astype(str)
    return frame["name"].to_numpy(dtype=object)
