"""What people are asked about in the loop's tests, with the answers that they give."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers.pre_tokenizers import BertPreTokenizer

TOPICS = {
    "access": "passwords, accounts, rights",
    "devices": "laptops, screens, printers, phones",
    "network": "wifi, VPN, slow or broken connections",
    "software": "programs that are missing, old or crash",
}
TICKETS = [
    ("I forgot my password and the account is locked now.", "access"),
    ("The printer on the third floor is out of toner again.", "devices"),
    ("The wifi in meeting room 4 drops every few minutes.", "network"),
    ("Excel crashes when I open a file with macros.", "software"),
    ("Please give Maria the rights to edit the team calendar.", "access"),
    ("My second screen stays black since this morning.", "devices"),
    ("The VPN connects, but no internal page loads.", "network"),
    ("Can I get the new version of the design program?", "software"),
    ("The account of a colleague who left should be closed.", "access"),
    ("The battery of my laptop is empty after an hour.", "devices"),
    ("Downloads are very slow at the Leeds office today.", "network"),
    ("The update of the mail program asks for a licence key.", "software"),
    ("The page says <access denied> for the R&D folder, though I am in the group.", "access"),
    ("The phone on my desk rings but I can't hear the caller.", "devices"),
    ("Video calls freeze as soon as I work from home.", "network"),
    ("The calendar program shows all meetings one hour late.", "software"),
    ("My account needs a new password every week.", "access"),
    ("The laptop does not find the screen in the office.", "devices"),
    ("The connection to the internal page is slow today.", "network"),
    ("The program crashes after the update.", "software"),
]

ASPECTS = {
    "food": "taste, choice, portions",
    "service": "waiters, waiting times, bookings",
    "place": "rooms, noise, view, cleanliness",
    "price": "what it costs, and whether it is worth it",
}
REVIEWS = [
    ("The soup was cold and the waiter forgot our drinks twice.", ["food", "service"]),
    ("Lovely view over the harbour, but far too expensive.", ["place", "price"]),
    ("Best fish and chips in town, and so cheap!", ["food", "price"]),
    ("We waited an hour for a table although we had booked.", ["service"]),
    ("The tables were sticky and the music was too loud.", ["place"]),
    ("We are coming back next month.", []),
    ("Friendly waiter, great pasta, a quiet garden.", ["food", "service", "place"]),
    ("Nine euros for a small beer is a joke.", ["price"]),
    ("The vegetarian menu has one dish, and it is a salad.", ["food"]),
    ("The waiter explained every dish and the garden was lovely.", ["service", "place"]),
    ("Small portions for a price like that.", ["food", "price"]),
    ("Opened in 1987 by two brothers from Naples.", []),
    ("The pasta was great, and cheap for the harbour.", ["food", "price"]),
    ("Nobody came to clean the table.", ["service", "place"]),
    ("A quiet room with a view of the garden.", ["place"]),
    ("The waiter was so friendly that we forgot how cold it was.", ["service", "place"]),
    ("The soup and the salad were great.", ["food"]),
    ("A friendly waiter and a cheap menu.", ["service", "price"]),
    ("The garden was loud.", ["place"]),
    ("We booked for next month.", []),
]

TYPES = {
    "person": "names of people, no titles",
    "organisation": "companies, teams, authorities",
    "place": "cities, countries, stations, mountains",
}
TWEETS = [
    "[Emma Okafor|person] scores twice and [Leeds United|organisation] go top! 🎉⚽",
    "Stuck at [Lisbon|place] airport, [Ryanair|organisation] says nothing. 😡",
    "Sunrise over [Ben Nevis|place] 🌄 worth every step",
    "[Tom Baker|person] leaves [Acme Foods|organisation] after 20 years",
    "Coffee first. ☕ Then the rest of Monday.",
    "🚆 [Northern Rail|organisation] cancels all trains from [Leeds|place] to [York|place]",
    "Just met [Emma Okafor|person] at the market in [Lisbon|place] 😍",
    "[Acme Foods|organisation] opens a bakery in [York|place], free bread today",
    "Does anybody know a good dentist in [Lisbon|place]?",
    "[Ryanair|organisation] cancels all flights to [Porto|place] today ✈️",
    "[Tom Baker|person] and [Ana Sousa|person] marry in [Porto|place] 💍🎉",
    "New phone, old problems 📵",
    "[Ana Sousa|person] joins [Leeds United|organisation]",
    "Free coffee at the [Northern Rail|organisation] market in [Leeds|place] 🥐",
    "All trains to [Porto|place] stuck 🚆 says [Ana Sousa|person]",
    "[Emma Okafor|person] opens the new market in [York|place]",
    "[Tom Baker|person] says nothing.",
    "Free bread at [Leeds|place] market 🥖",
    "[Ryanair|organisation] cancels all flights to [Lisbon|place]",
    "[Ana Sousa|person] leaves [Acme Foods|organisation]",
]

NO_CANDIDATE = "None of these is right."
DIALOGUES: list[tuple[list[str], list[str], int | None]] = [
    (
        ["Hello, my order was to come yesterday.", "Sorry to hear that. What is its number?", "It is 20417."],
        ["Our shop opens at nine.", "It is in your town and comes tomorrow.", "You can pay by card."],
        1,
    ),
    (
        ["Do you have the blue lamp in stock?"],
        ["Yes, three of them are left.", "Returns are free for 30 days.", "The courier comes at noon."],
        0,
    ),
    (
        ["I want to send the chairs back.", "What is wrong with them?", "They are too high for our table."],
        ["A new voucher comes by mail.", "I see. I have mailed you a label for the return."],
        1,
    ),
    (
        ["My voucher does not work.", "What does the page say?", "That it is <expired>, but it is from last week."],
        ["Lamps have a guarantee of two years.", "Here is a new code: WELCOME & THANKS.", "The lamp is blue."],
        1,
    ),
    (
        ["How long is the guarantee for lamps?"],
        ["Two years from the day of delivery.", "Our shop is in York.", "We also have chairs."],
        0,
    ),
    (
        ["Can the courier come in the evening?", "On which day?", "Friday would be best."],
        ["Lamps are on the second floor.", "Your card was declined.", "We do not sell vouchers."],
        None,
    ),
    (
        ["I was charged twice for one order.", "Which order is it?", "Number 20533."],
        ["One of the payments goes back to your card today.", "The table is made of oak.", "See you on Friday."],
        0,
    ),
    (
        ["Is the shop open on Sunday?"],
        ["The label is in your mail.", "No, from Monday to Saturday, nine to six.", "The order is on its way."],
        1,
    ),
    (
        ["The table has a scratch.", "Could you send us a photo?", "Here it is."],
        ["We open at nine.", "Thank you. Would a new top be all right, or the money back?", "Three are left."],
        1,
    ),
    (
        ["Where is my order?"],
        ["Tell me its number and I will look.", "The lamp costs 40 euros.", "We have two shops in York."],
        0,
    ),
    (
        ["Can I pay by card?"],
        ["The lamp is out of stock.", "The courier was here at noon."],
        None,
    ),
    (
        ["I need a chair for a child.", "How old is the child?", "She is four."],
        ["Your payment goes back today.", "The blue one is right for ages three to six."],
        1,
    ),
    (
        ["Please cancel my order.", "Which one is it?", "The lamp from Monday, number 20610."],
        ["It is cancelled, and the money is on its way.", "The shop opens at nine.", "Lamps are free of tax."],
        0,
    ),
    (
        ["Do you bring the table upstairs?"],
        ["Yes, as far as the third floor.", "The voucher is from last week."],
        0,
    ),
    (
        ["My lamp flickers.", "Since when?", "Since the day of delivery."],
        ["We sell tables too.", "Then the guarantee covers it. I will send you a new one.", "Two chairs are left."],
        1,
    ),
    (
        ["Thank you for your help!"],
        ["You are welcome.", "The number is 20417.", "The table is made of oak."],
        0,
    ),
    (
        ["When does the courier come?"],
        ["At noon on Friday.", "The lamp is blue."],
        0,
    ),
    (
        ["Is the blue lamp in stock?"],
        ["The courier comes at noon.", "Yes, one is left."],
        1,
    ),
]


def marked(text: str) -> tuple[str, list[dict[str, Any]]]:
    """A text without the marks of its entities, and these as spans of characters."""
    plain, spans = "", []
    for before, name, label in re.findall(r"([^\[]*)(?:\[(.+?)\|(.+?)\])?", text):
        plain += before
        if name:
            spans.append({"start": len(plain), "end": len(plain) + len(name), "label": label})
        plain += name
    return plain, spans


def tags(text: str, spans: Sequence[Mapping[str, Any]]) -> list[str]:
    """The spans as a BIO tag a word."""
    found = []
    for _, (start, end) in BertPreTokenizer().pre_tokenize_str(text):
        span = next((span for span in spans if span["start"] <= start and end <= span["end"]), None)
        found.append("O" if span is None else f"{'B' if start == span['start'] else 'I'}-{span['label']}")
    return found
