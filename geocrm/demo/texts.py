# ruff: noqa: E501
"""The sentences of the demo company's interactions; {what} stands for a category, {place} for the town."""

from __future__ import annotations

import numpy as np

Talk = tuple[str, str, str, str, str | None]  # kind, department, subject, body, outcome

REP_TALKS: list[Talk] = [
    ("visit", "sales", "Season order for {what}", "Walked the floor in {place} and went through last season's sell-through in {what}. They want to order earlier this year.", "order expected"),
    ("visit", "sales", "Store check in {place}", "Shelf space for {what} is fine, signage is faded. Promised new boards with the next delivery.", "follow up"),
    ("visit", "sales", "Introduction", "First meeting in {place}. They buy {what} from two other suppliers and asked for terms at 30 days.", "interested"),
    ("visit", "sales", "Damaged delivery looked at", "Two cartons of {what} were wet. Took pictures, replacement goes out from the depot.", "resolved"),
    ("call", "sales", "Price list for {what}", "Asked for the new price list and whether the volume discount still holds. Sent it the same day.", "sent information"),
    ("call", "sales", "Checking in before the season", "No open orders. They expect a slow start around {place} because of the roads, will call back.", "call back"),
    ("call", "sales", "Quote for {what}", "Needs a quote for the program by Friday, about forty people. Budget is approved.", "quote requested"),
    ("call", "sales", "Missed each other", "Left a message about the {what} delivery.", "no answer"),
    ("email", "sales", "Quote: {what}", "Quote sent with delivery to {place} in the second half of the month.", "sent information"),
    ("email", "sales", "Thank you for the visit", "Sent the summary and the sizing chart for {what}.", "sent information"),
    ("note", "sales", "Change at the account", "The buyer in {place} leaves at the end of the month; the owner takes over {what} herself.", None),
    ("note", "sales", "Competitor mentioned", "TrailBarn offers {what} at a lower price with free freight. Margin would allow four percent.", None),
]  # fmt: skip
SERVICE_TALKS: list[Talk] = [
    ("ticket", "service", "Zipper on {what}", "Zipper came apart after three trips. Sent to warranty sewing.", "resolved"),
    ("ticket", "service", "Where is my order?", "Tracking had not moved for four days; the carrier found it at the {place} hub.", "resolved"),
    ("ticket", "service", "Exchange for another size", "Fits too tight over a base layer, exchanged one size up.", "exchanged"),
    ("ticket", "service", "Wrong color delivered", "Ordered the green one, got blue. Kept it against ten percent off.", "credited"),
    ("ticket", "service", "Question about {what}", "Asked how to care for it and which wax to use.", "answered"),
    ("call", "service", "Appointment at the workshop", "Booked a slot in the {place} area for next week.", "booked"),
    ("email", "service", "Invoice copy", "Needs last year's invoices for the accountant.", "sent information"),
]  # fmt: skip
COMPLAINTS: list[Talk] = [
    ("complaint", "service", "Rental was not ready", "Drove in from {place} for the reserved set, it was out with somebody else. Apologized, waived the fee.", "credited"),
    ("complaint", "service", "{what}: broke on the first day", "Broke on day one. Wants the money back and was not happy about the wait on the phone.", "refunded"),
    ("complaint", "service", "Delivered late", "Needed it for the weekend, came on Monday.", "credited"),
    ("complaint", "service", "Waited 40 minutes at the counter", "Only one person at the register on a Saturday in {place}.", "answered"),
]  # fmt: skip
WORDS_HIGH = ["Staff knew exactly what I needed.", "Quick delivery, everything fits.", "Best shop around {place}.",
              "Great advice on {what}.", "The workshop did it overnight."]  # fmt: skip
WORDS_LOW = ["Took too long.", "Could not find anybody to help with {what}.", "Too far from {place}, and the web page was out of stock.",
             "Price was higher than online elsewhere."]  # fmt: skip
CATEGORY_WORDS = np.array(
    ["camping gear", "climbing gear", "bikes and parts", "ski gear", "outdoor clothing", "rental gear"], dtype=object
)
