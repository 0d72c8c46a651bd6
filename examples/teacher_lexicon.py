"""What the stand-in teacher knows of its own: words and how strongly they speak for a category or a priority.

Written by hand, as somebody would who has read support mail for years; it shares nothing with the tickets' generator.
Words are stems in lower case without umlauts ("ue" for "ü"); two words are matched as neighbours.
"""

# fmt: off
CATEGORY_WORDS: dict[str, dict[str, float]] = {
    "billing": {
        "invoice": 2.4, "bill": 1.5, "charge": 2.2, "charged": 0.6, "payment": 1.7, "vat": 1.2, "tax": 1.0,
        "debit": 1.4, "discount": 1.3, "voucher": 1.3, "promo": 1.0, "credit card": 0.5, "declined": 0.8,
        "bank statement": 0.8, "accounting": 0.8, "bookkeep": 0.8, "the amount": 0.6, "the money": 0.3,
        "rechnung": 2.5, "abbuchung": 2.3, "abgebucht": 2.5, "berechnet": 1.2, "belastet": 1.6,
        "umsatzsteuer": 1.2, "mehrwertsteuer": 1.2, "rabatt": 1.3, "gutschein": 1.3, "zahlung": 1.8,
        "buchhaltung": 0.8, "betrag": 0.8, "kreditkarte": 0.5, "lastschrift": 0.6, "kontoauszug": 0.8,
        "zweimal": 0.6, "doppelt": 0.8,
    },
    "refund": {
        "refund": 3.0, "money back": 2.6, "reimburs": 2.4, "return": 1.5, "returning": 0.5, "sent back": 1.2,
        "send it": 0.5, "return label": 0.8, "my money": 0.6, "went back": 0.6,
        "erstatt": 3.0, "rueckzahlung": 2.6, "geld zurueck": 2.4, "zurueckgeschickt": 1.8, "zurueckgeben": 1.8,
        "retoure": 1.5, "ruecksend": 1.4, "rueckgabe": 1.4, "kaufpreis": 1.0, "zurueckzahlen": 1.4,
    },
    "delivery": {
        "parcel": 1.9, "package": 1.9, "tracking": 1.9, "courier": 1.6, "shipment": 1.9, "shipped": 1.0,
        "deliver": 1.9, "dhl": 0.8, "ups": 0.5, "dpd": 0.8, "hermes": 0.8, "gls": 0.8, "depot": 1.0,
        "neighbour": 0.8, "not arrived": 1.2, "crushed": 1.0, "driver": 0.8, "boxes": 0.6,
        "paket": 1.9, "lieferung": 1.8, "geliefert": 1.8, "sendung": 1.6, "zugestellt": 1.6, "versandt": 1.4,
        "bote": 0.8, "fahrer": 0.8, "nachbar": 0.8, "angekommen": 1.0, "liefern": 1.4, "zerdrueckt": 1.0,
    },
    "login": {
        "login": 2.4, "log in": 2.6, "log into": 2.6, "sign in": 2.5, "password": 2.4, "locked out": 2.6,
        "unlock": 2.0, "two-factor": 2.2, "verification": 1.4, "authenticator": 2.0, "user name": 1.4,
        "access denied": 1.6, "reset": 1.2, "spam": 0.5,
        "anmeld": 2.4, "einloggen": 2.6, "passwort": 2.4, "ausgesperrt": 2.6, "gesperrt": 1.6,
        "entsperren": 2.0, "zwei-faktor": 2.2, "benutzername": 1.5, "zugriff": 1.4, "zuruecksetzen": 1.4,
        "zugang": 1.0, "code": 0.8,
    },
    "bug": {
        "crash": 2.4, "freez": 2.3, "error": 2.2, "bug": 2.4, "blank": 1.6, "sync": 2.0, "hangs": 2.0,
        "loses the": 0.8, "connection": 1.5, "disconnect": 1.8, "update": 0.7, "version": 0.7, "reinstall": 1.4,
        "screenshot": 1.2, "the wrong": 0.6, "nonsense": 1.2, "closes itself": 1.6, "log file": 0.8,
        "is empty": 0.9,
        "stuerzt": 2.2, "absturz": 2.3, "fehler": 2.2, "fehlermeldung": 0.6, "haengt": 1.4, "friert": 2.0,
        "synchronisiert": 2.0, "neu installiert": 1.2, "verbindung": 1.5, "bildschirmfoto": 1.2, "gleicht": 1.2,
        "beheben": 1.2, "falsche": 0.5, "bugfix": 2.0,
    },
    "cancellation": {
        "cancel": 2.9, "cancellation": 0.5, "terminate": 2.2, "subscription": 1.2, "contract": 1.2,
        "membership": 1.2, "renew": 1.8, "unsubscribe": 2.0, "notice period": 1.4, "no longer": 0.4,
        "end my": 1.2, "end the": 0.8, "quit": 1.4, "by mistake": 0.6, "notice of": 0.8, "notice for": 0.8,
        "kuendig": 3.0, "abo": 1.2, "vertrag": 1.2, "mitgliedschaft": 1.2, "verlaenger": 1.8, "stornier": 2.5,
        "beenden": 1.6, "abbestellen": 1.8, "auslaufen": 1.2, "versehen": 0.6,
    },
    "feature_request": {
        "feature": 2.2, "suggestion": 2.3, "idea": 1.8, "wish": 2.0, "would be": 0.9, "nice if": 1.2,
        "great if": 1.2, "dark mode": 1.4, "export": 1.2, "widget": 1.2, "roadmap": 1.8, "planned": 1.2,
        "plans": 0.9, "please add": 0.8, "add": 0.6, "we miss": 1.2, "spreadsheet": 0.8, "offline": 1.0,
        "voice": 0.8, "reminders": 1.0, "scanner": 1.0, "weekly": 0.8, "shared recipes": 1.0, "filters": 0.9,
        "other apps": 1.0, "similar apps": 1.0, "competitor": 0.9, "languages": 0.8, "would love": 1.2,
        "bigger": 0.8, "smart watch": 0.9,
        "funktion": 1.8, "vorschlag": 2.3, "idee": 1.9, "wuensch": 2.0, "waere": 1.2, "einbauen": 1.8,
        "geplant": 1.4, "dunkles": 1.2, "wochenbericht": 1.0, "sprachsteuerung": 1.2, "erinnerungen": 1.0,
        "wunschliste": 1.8, "anregung": 2.0, "andere apps": 1.0, "groessere": 0.9, "barcode": 1.0,
        "filter nach": 0.9, "geteilte": 0.9, "sprachen": 0.8, "fehlt": 0.4, "tabelle": 0.6,
    },
    "account_change": {
        "address": 1.5, "profile": 1.8, "change": 1.2, "changed": 0.3, "moved": 1.3, "moving to": 1.0,
        "new address": 1.2, "phone number": 1.5, "company name": 1.5, "last name": 1.2, "account holder": 1.6,
        "second user": 1.6, "upgrade": 1.5, "switch": 0.6, "contact person": 1.4, "update my": 0.8,
        "update our": 0.8, "bank account": 0.8, "details": 0.6, "edit": 0.8, "i live": 0.8,
        "adresse": 1.5, "anschrift": 1.6, "profil": 1.8, "aender": 1.6, "geaendert": 1.6, "umgezogen": 1.8,
        "telefonnummer": 1.5, "firmenname": 1.5, "nachname": 1.2, "stammdaten": 1.8, "kontoinhaber": 1.6,
        "hinzufuegen": 1.4, "anpassen": 1.2, "bankverbindung": 1.5, "ansprechpartner": 1.4, "wechseln": 0.8,
        "daten": 0.7, "mailadresse": 1.2, "wohne": 1.0,
    },
}

PRIORITY_WORDS: dict[str, dict[str, float]] = {
    "low": {
        "no hurry": 3.0, "no rush": 3.0, "not urgent": 4.5, "can wait": 2.4, "take your": 2.0, "whenever": 2.2,
        "have time": 1.6, "round to": 1.8, "low priority": 2.4, "to rush": 2.0, "a minute": 1.8,
        "eilt": 1.6, "nicht dringend": 4.5, "so dringend": 3.5, "zeit haben": 2.4, "kann warten": 2.2,
        "lassen sich": 2.0, "sich zeit": 1.6, "ohne eile": 2.8, "ruhig warten": 2.0, "wochen warten": 2.2,
        "darf": 1.0,
    },
    "high": {
        "important": 2.2, "deadline": 2.4, "losing patience": 2.4, "by tomorrow": 2.2, "answer today": 2.4,
        "second time": 2.2, "third time": 2.2, "the second": 1.6, "the third": 1.6, "my third": 1.8,
        "solved by": 1.8, "done by": 1.8, "out by": 1.8, "before": 1.0, "need this": 0.8, "need an": 0.8,
        "need it": 0.8,
        "wichtig": 2.2, "frist": 2.2, "geduld": 2.4, "bis morgen": 2.2, "heute noch": 2.4, "meine zweite": 2.2,
        "meine dritte": 2.2, "das unbedingt": 1.8, "brauchen das": 1.5, "brauche das": 1.5,
    },
    "urgent": {
        "urgent": 2.8, "immediately": 2.6, "right now": 2.4, "at once": 2.2, "emergency": 2.8,
        "standstill": 2.6, "the hour": 1.8, "every hour": 2.2, "each hour": 2.0, "costs us": 1.4,
        "is blocked": 1.6, "is down": 1.6, "nothing works": 1.8, "help": 0.8,
        "dringend": 2.8, "sofort": 2.6, "umgehend": 2.4, "notfall": 2.8, "steht still": 2.6, "jede stunde": 2.2,
        "naechsten stunde": 2.2, "nichts mehr": 0.8, "kunden warten": 1.8, "kostet uns": 1.4,
    },
}
NORMAL_PRIORITY_WEIGHT = 1.3

# A sentence with one of these talks about something that is over, or leads away from the point.
ASIDE_WORDS = (
    "by the way", "is settled", "went fine", "fixed", "solved", "came through", "was delivered", "not why",
    "in the end", "is gone", "already", "nothing to do", "thank you for",
    "uebrigens", "darum geht", "hat geklappt", "zurueckbekommen", "behoben", "schon",
)
# fmt: on
