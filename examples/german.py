"""The German phrasebook of the demo's support tickets."""

# A phrase is easier to read and to change on one line.
# ruff: noqa: E501

from examples.english import ENGLISH
from examples.phrasebook import Phrasebook, Topic

_BILLING = Topic(
    problems=(
        "[mir wurde|uns wurde|meine Karte wurde mit] {amount} Euro [doppelt|zweimal] [abgebucht|belastet|berechnet]",
        "[die|Ihre] Rechnung [für {month}|zu Bestellung {order}] [weist|zeigt] {amount} Euro aus, [vereinbart waren|das Angebot war] {amount}",
        "[auf dem Konto|auf meinem Kontoauszug] steht eine Abbuchung von {amount} Euro, die [ich nicht kenne|niemand erklären kann]",
        "[auf der|auf Ihrer] Rechnung [fehlt|steht falsch] die [Umsatzsteuer|USt-Nummer|Mehrwertsteuer]",
        "[ich habe|wir haben] [noch|] keine Rechnung [für {month}|zu Bestellung {order}] [bekommen|erhalten]",
        "[der Rabatt|mein Gutschein] wurde [auf der|bei der] Rechnung [nicht abgezogen|vergessen]",
        "[die|meine] Zahlung [für den Tarif {plan}|zu Bestellung {order}] [wurde abgelehnt|ging nicht durch], obwohl die [Kreditkarte|Karte] gedeckt ist",
        "der Rechnungsbetrag ist [ohne Ankündigung|plötzlich] [um {amount} Euro|auf {amount} Euro] gestiegen",
        "Sie haben das Geld am {date} gleich zweimal genommen",
    ),
    details=(
        "[beide|die zwei] Abbuchungen sind vom {date}",
        "[die Bank|der Kontoauszug] zeigt {amount} Euro am {date}",
        "die Rechnungsnummer [ist|lautet] {order}",
        "[unsere Buchhaltung|das Finanzamt] [akzeptiert|nimmt] [diese|so eine] Rechnung nicht",
        "[wir zahlen|ich zahle] per [Lastschrift|Kreditkarte|Überweisung]",
    ),
    asks=(
        "[bitte|können Sie] [eine korrigierte|die richtige] Rechnung schicken",
        "[bitte|können Sie] die Abbuchung [prüfen|erklären]",
        "wofür [genau|] [zahle ich da|wurde das berechnet]?",
        "[bitte|] korrigieren Sie den Betrag",
    ),
    mentions=(
        "[meine|die] Rechnung für {month} [ist bezahlt|kam an|wurde korrigiert]",
        "die Abbuchung von {amount} Euro [hat sich geklärt|war doch richtig]",
        "[die|Ihre] letzte Rechnung [habe ich|haben wir] schon bezahlt",
    ),
)

_REFUND = Topic(
    problems=(
        "[ich möchte|wir möchten|ich will] [mein Geld zurück|eine Erstattung|das Geld zurück] für [{product}|Bestellung {order}]",
        "[ich habe|wir haben] {product} [{ago}|am {date}] zurückgeschickt und [noch keine Erstattung|kein Geld zurück] bekommen",
        "[wo bleibt|wann kommt] [die|meine] [Erstattung|Rückzahlung] [von {amount} Euro|für Bestellung {order}]?",
        "[bitte|] erstatten Sie [mir|uns] [{amount} Euro|Bestellung {order}], [die Ware geht zurück|es passt nicht zu uns]",
        "[mir wurde|uns wurde] [bis {date}|{ago}] eine [Erstattung|Rückzahlung] [versprochen|zugesagt], es kam nichts",
        "[ich möchte|wir wollen|wie kann ich] {product} zurückgeben und [das Geld zurückbekommen|den Kaufpreis erstattet haben]",
        "{product} [ging nach {small} Tagen kaputt|hat die falsche Farbe|ist zu laut], [ich schicke es zurück und will mein Geld|bitte Geld zurück]",
        "es wurde nur [ein Teil|die Hälfte] erstattet, {amount} Euro [fehlen noch|sind offen]",
        "[meine|die] {amount} Euro hätte ich gern wieder, {product} liegt [{ago}|längst] bei Ihnen",
    ),
    details=(
        "die Nummer der Rücksendung ist {order}",
        "Ihr Lager hat die Retoure am {date} [bestätigt|angenommen]",
        "gekauft [habe ich|haben wir] am {date} [für {amount} Euro|]",
        "es ist [unbenutzt|originalverpackt] und in der Rückgabefrist",
        "[bitte|gerne] auf [dieselbe Karte|dasselbe Konto] zurückzahlen",
    ),
    asks=(
        "[bitte|können Sie] [die Erstattung|das Geld] überweisen",
        "[bitte|können Sie] mir ein Rücksendeetikett schicken",
        "wann ist die Erstattung auf meinem Konto?",
        "[bitte|] bestätigen Sie die Rückzahlung",
    ),
    mentions=(
        "die Erstattung für {product} kam {ago} an",
        "das Geld für Bestellung {order} [habe ich|haben wir] zurückbekommen",
        "die Rückgabe [im {month}|{ago}] lief gut",
    ),
)

_DELIVERY = Topic(
    problems=(
        "[mein|das|unser] Paket [mit {product}|zu Bestellung {order}|] ist [noch nicht|nie|immer noch nicht] angekommen",
        "die Sendungsverfolgung [bewegt sich nicht|zeigt nichts Neues|steht still] seit {date}",
        "[der Bote|der Fahrer|{carrier}] hat [das|mein] Paket [im Regen|beim falschen Nachbarn|vor dem falschen Haus] abgestellt",
        "Bestellung {order} war für {date} [zugesagt|angekündigt] und wurde [noch nicht geliefert|nicht versandt]",
        "[laut {carrier}|laut Sendungsverfolgung] zugestellt, aber [hier ist kein Paket|niemand hat ein Paket]",
        "von {small} Paketen kam nur eines an, {product} fehlt [in der Lieferung|]",
        "[das Paket|die Lieferung] kam [zerdrückt|offen|nass] an, {product} ist [zerbrochen|beschädigt]",
        "wann [wird|kommt] [meine Lieferung|die Sendung] mit {product} [geliefert|an|]?",
        "der Karton mit {product} ist immer noch nicht hier",
    ),
    details=(
        "die Sendungsnummer ist {order}",
        "{carrier} [sagt|meint], [es ist verloren|die Adresse ist unbekannt|man weiß nichts]",
        "[ich war|wir waren] [am {date}|] den ganzen Tag da, niemand hat geklingelt",
        "die Sendung liegt seit {small} Tagen im Depot in {city}",
        "[das Paket|es] soll in die {street} {house} nach {city}",
    ),
    asks=(
        "[bitte|können Sie] [prüfen|herausfinden], wo das Paket ist",
        "[bitte|können Sie] [neu liefern|ein neues Paket schicken]",
        "wann kommt die Lieferung?",
        "[bitte|] fragen Sie bei {carrier} nach",
    ),
    mentions=(
        "[mein|das] Paket [mit {product}|] kam {ago} an",
        "{product} wurde [pünktlich|{ago}] geliefert",
        "{carrier} hat das verlorene Paket gefunden",
    ),
)

_LOGIN = Topic(
    problems=(
        "[ich kann mich|wir können uns] [seit {day}|seit {date}|] nicht mehr [anmelden|einloggen]",
        "[mein|das] Passwort wird [nicht akzeptiert|immer abgelehnt], [auch nach dem Zurücksetzen|obwohl es stimmt]",
        "die [Mail|E-Mail] zum Zurücksetzen des Passworts [kommt nicht an|ist jedes Mal abgelaufen]",
        "[ich bin|wir sind|mein Team ist] [seit {day}|nach {small} Versuchen] [ausgesperrt|aus dem Konto gesperrt]",
        "der [Anmeldecode|Bestätigungscode|Code zur Anmeldung] [kommt nie|kommt zu spät|wird abgelehnt]",
        "[ich habe|nun habe ich] ein neues Handy und [die Zwei-Faktor-Codes sind weg|keine Zwei-Faktor-Anmeldung mehr]",
        "die Anmeldeseite [sagt|meldet], [mein Konto gibt es nicht|falscher Benutzername|zu viele Versuche]",
        "[ich habe|wir haben] das Passwort vergessen und [das Zurücksetzen klappt nicht|es kommt keine Mail]",
        "ich komme [seit {day}|seit gestern] nicht mehr in mein Konto hinein",
    ),
    details=(
        "mein Benutzername ist {email}",
        "[ich habe|wir haben] es [mit {small} Browsern|am Handy|an einem anderen Rechner] versucht",
        "[bis {day}|gestern] ging die Anmeldung noch",
        "im Spam-Ordner ist auch nichts",
        "[es kommt|da steht] immer Zugriff verweigert",
    ),
    asks=(
        "[bitte|können Sie] das Passwort zurücksetzen",
        "[bitte|können Sie] [mein Konto|den Zugang] entsperren",
        "[bitte|] schalten Sie die Zwei-Faktor-Prüfung ab",
        "wie kann ich mich wieder anmelden?",
    ),
    mentions=(
        "das neue Passwort funktioniert [jetzt|seit {day}]",
        "die Anmeldung klappt [seit {day}|wieder]",
        "das Login vom {date} ist gelöst",
    ),
)

_BUG = Topic(
    problems=(
        "[die App|Ihre App] stürzt [immer|] ab, [wenn|sobald] ich die Ansicht {screen} [öffne|antippe]",
        "[beim Speichern|beim Öffnen] der Ansicht {screen} kommt [eine Fehlermeldung|der Fehler {order}]",
        "seit [dem Update|Version {version}] [ist|bleibt] die Ansicht {screen} [leer|weiß|unlesbar]",
        "die App [synchronisiert nicht|gleicht nicht mehr ab] mit {product}",
        "in der Ansicht {screen} ist ein Fehler: [die Zahlen stimmen nicht|es speichert nichts|der Knopf tut nichts]",
        "{product} verliert [alle {small} Minuten|ständig] die Verbindung zur App",
        "die Ansicht {screen} zeigt seit [Version {version}|dem Update] die falsche [Uhrzeit|Temperatur|Sprache]",
        "[die App|die Ansicht {screen}] [hängt|friert ein] [bei {small} Prozent|beim Laden|immer wieder]",
        "in der Ansicht {screen} dreht sich auf [meinem|unserem] {device} nur noch ein Rädchen",
    ),
    details=(
        "es passiert auf [einem|meinem] {device}[ mit Version {version}|]",
        "[ich habe|wir haben] die App {small} Mal neu installiert",
        "[ein Bildschirmfoto|das Fehlerprotokoll] hängt an",
        "in Version {version} ging [es|alles] noch",
        "ein Kollege hat denselben [Fehler|Absturz] auf dem {device}",
    ),
    asks=(
        "[bitte|können Sie] den Fehler beheben",
        "ist der Fehler bekannt?",
        "wann kommt ein [Update|Bugfix]?",
        "[bitte|] sehen Sie sich den Absturz an",
    ),
    mentions=(
        "der [Absturz|Fehler] in der App ist seit Version {version} [weg|behoben]",
        "das letzte Update hat den Fehler gelöst",
        "die App läuft nach dem Update wieder",
    ),
)

_CANCELLATION = Topic(
    problems=(
        "[hiermit kündige ich|ich kündige|wir kündigen] [den Vertrag|das Abo|den Tarif {plan}] [zum {date}|zum nächstmöglichen Termin|zum Ende {month}]",
        "[ich möchte|wir möchten|ich will] [das Abo|den Tarif {plan}|den Vertrag] [kündigen|beenden]",
        "[wie|wo] kann ich [das Abo|den Vertrag|die Mitgliedschaft] kündigen?",
        "[mein|unser] [Abo|Vertrag] soll sich [im {month}|am {date}] nicht [verlängern|noch einmal verlängern]",
        "[wir schließen den Laden|wir ziehen ins Ausland|wir wechseln den Anbieter] und [müssen|wollen] den Vertrag [beenden|kündigen]",
        "[der Kündigungsknopf|die Kündigungsseite] [ist nicht zu finden|führt ins Leere], ich will [raus|das Abo beenden]",
        "bitte nehmen Sie dies als [meine|unsere] Kündigung [für den Tarif {plan}|des Abos|des Vertrags]",
        "bitte stornieren Sie Bestellung {order}, [ein Versehen|wir brauchen sie nicht mehr|ich habe mich vertan]",
        "den Tarif {plan} [wollen wir|will ich] nicht mehr, lassen Sie ihn zum {date} auslaufen",
    ),
    details=(
        "der Vertrag läuft [noch|] bis {date}",
        "[ich nutze|wir nutzen] es [kaum|nicht] mehr",
        "die [Kundennummer|Vertragsnummer] ist {order}",
        "in den Einstellungen gibt es [keinen Kündigungsknopf|nichts zum Abbestellen]",
        "der Tarif {plan} ist uns [zu teuer|zu groß] geworden",
    ),
    asks=(
        "[bitte|] bestätigen Sie die Kündigung [schriftlich|per Mail|]",
        "[bitte|] stoppen Sie die Verlängerung",
        "[bitte|] nennen Sie mir das Ende des Vertrags",
        "wie ist die Kündigungsfrist?",
    ),
    mentions=(
        "die Kündigung vom {date} [ist bestätigt|ging durch]",
        "das alte Abo [habe ich|haben wir] im {month} gekündigt",
        "der erste Vertrag endete am {date}",
    ),
)

_FEATURE = Topic(
    problems=(
        "[es wäre schön|schön wäre|toll wäre es], wenn [die App|die Ansicht {screen}] {feature} [hätte|bekäme]",
        "[ich wünsche mir|wir wünschen uns] {feature} [in der App|für {product}|]",
        "[könnten Sie|können Sie] [bitte|] {feature} [in die App|in die Ansicht {screen}] einbauen?",
        "[ich habe|hier ist] [ein Vorschlag|eine Idee|ein Funktionswunsch]: {feature}",
        "[ist|sind] [irgendwann|für die nächste Version] {feature} geplant?",
        "[uns fehlt|mir fehlt|was fehlt, ist] {feature} [in der App|in der Ansicht {screen}], [das wäre praktisch|bitte einbauen]",
        "[mein Vorschlag|eine Anregung] für [die nächste Version|die Ansicht {screen}]: {feature}",
        "andere Apps haben {feature}, [bitte bauen Sie das auch|schade, dass Sie das nicht bieten]",
        "gibt es [eines Tages|nächstes Jahr] vielleicht {feature}?",
    ),
    details=(
        "[das|die Funktion] würde [uns|mir] {small} [Stunden|Minuten] pro Woche sparen",
        "[viele|{small}] [Kollegen|Bekannte] wünschen sich [das|die Funktion] auch",
        "[bisher|im Moment] machen wir das von Hand in einer Tabelle",
        "[dafür|für die Funktion] würden wir [auch|] {amount} Euro zahlen",
        "es muss in der ersten Version nicht perfekt sein",
    ),
    asks=(
        "[bitte|] setzen Sie das auf die Wunschliste",
        "ist [das|die Funktion] geplant?",
        "was halten Sie von [der Idee|dem Vorschlag]?",
        "ich würde es gern testen",
    ),
    mentions=(
        "die neue Funktion vom {month} ist [toll|sehr praktisch]",
        "[mein|unser] Vorschlag aus dem {month} wurde umgesetzt",
        "danke für die Idee mit {feature}",
    ),
)

_ACCOUNT = Topic(
    problems=(
        "[bitte|können Sie] [meine|unsere] [E-Mail-Adresse|Mailadresse] auf {email} ändern",
        "[ich bin|wir sind] [nach {city}|am {date}] umgezogen, die neue Adresse ist {street} {house}, {city}",
        "[bitte|können Sie] [den Namen|den Firmennamen|die Telefonnummer|die Anschrift] im [Konto|Profil] [ändern|berichtigen]",
        "[mein Nachname|unser Firmenname] hat sich [zum {date}|] geändert, bitte [das Profil anpassen|in den Stammdaten ändern]",
        "[ich möchte|wir möchten] [vom Tarif {plan}|] in den Tarif {plan} wechseln",
        "[bitte|können Sie] [einen zweiten Benutzer|eine Kollegin|{email}] [im|zum] Konto hinzufügen",
        "[ich brauche|wir brauchen] [eine neue Bankverbindung|einen anderen Ansprechpartner|eine andere Telefonnummer] im Profil",
        "[wie|wo] kann ich [meine Adresse|meine Daten|den Kontoinhaber] [ändern|anpassen]?",
        "ab {date} [wohne ich|sitzt unser Büro] in der {street} {house} in {city}",
    ),
    details=(
        "die alte [Adresse|Anschrift] war {street} {house}",
        "das [Konto|Profil] läuft auf {email}",
        "[im Formular|auf der Profilseite] lässt sich das [Feld|] nicht ändern",
        "[künftige|alle] Briefe [bitte|] an die neue Anschrift",
        "die Änderung gilt ab {date}",
    ),
    asks=(
        "[bitte|] bestätigen Sie die Änderung",
        "[bitte|können Sie] [meine Daten|unsere Stammdaten] anpassen",
        "brauchen Sie ein [Dokument|Formular] für die Änderung?",
        "[bitte|] tragen Sie die neuen Daten ein",
    ),
    mentions=(
        "[meine|die] neue Adresse steht [jetzt|] im Profil",
        "[Sie haben|Ihr Kollege hat] {ago} [meine Mailadresse|die Telefonnummer] geändert",
        "die Änderung [im Profil|der Adresse] hat geklappt",
    ),
)

GERMAN = Phrasebook(
    topics={
        "billing": _BILLING,
        "refund": _REFUND,
        "delivery": _DELIVERY,
        "login": _LOGIN,
        "bug": _BUG,
        "cancellation": _CANCELLATION,
        "feature_request": _FEATURE,
        "account_change": _ACCOUNT,
    },
    priorities={
        "low": (
            "es eilt [überhaupt|gar|] nicht",
            "das ist nicht [so|] dringend",
            "wenn Sie Zeit haben, es eilt nicht",
            "[lassen Sie sich Zeit|nächsten Monat reicht], das kann warten",
            "das kann [ein paar Wochen|bis {month}|ruhig] warten",
        ),
        "normal": (
            "[bitte|] antworten Sie [in den nächsten Tagen|diese Woche]",
            "[ich freue mich auf|danke für] Ihre Antwort",
            "sagen Sie [mir|uns], was Sie [noch|] brauchen",
            "",
            "",
            "",
        ),
        "high": (
            "[ich brauche|wir brauchen] das [unbedingt|] bis [morgen|{day}]",
            "das ist [uns|mir] [sehr|wirklich|recht|] wichtig",
            "[unsere Frist|die Frist] endet [morgen|am {day}]",
            "das ist wichtig, [ich verliere|wir verlieren] die Geduld",
            "wichtig: [bitte antworten Sie|ich brauche eine Antwort] [heute noch|bis morgen]",
        ),
        "urgent": (
            "es ist [sehr|äußerst|] dringend",
            "[ich brauche|wir brauchen] [sofort|sehr dringend] Hilfe",
            "dringend: [unser ganzer|der ganze] [Laden|Betrieb] steht still",
            "[bitte|] [reagieren|handeln|helfen] Sie sofort",
            "[Notfall|dringend]: [die Kunden warten|hier geht nichts mehr|wir verlieren jede Stunde Geld]",
        ),
    },
    greetings=(
        "[hallo|guten Tag|moin|servus]",
        "[hallo|liebes|guten Tag] [zusammen|Team|Support-Team]",
        "guten [Morgen|Abend]",
        "sehr geehrte Damen und Herren",
        "[liebes|hallo] Service-Team",
    ),
    backgrounds=(
        "[ich bin|wir sind] [seit {small} Jahren|seit {month}] Kunde [bei Ihnen|]",
        "wir sind [ein kleines Café|ein Büro|eine Bäckerei|ein Hotel|eine Buchhandlung] in {city}",
        "[ich habe|wir haben] {product} [{ago}|im {month}] gekauft",
        "es geht um [unsere Maschine|das Gerät {product}]",
        "[ich benutze|wir benutzen] {product} [jeden Tag|jeden Morgen]",
        "[die Hotline|Ihr Chat] [war wieder besetzt|hat mich hierher geschickt|hat aufgelegt]",
        "meine Bestellnummer ist {order}",
        "mit Computern [kenne ich mich|kennt sich mein Vater] nicht so aus",
        "[übrigens|vorweg]: mit {product} [bin ich|sind wir] [sehr|] zufrieden",
        "[ich habe|wir haben] [{ago}|am {date}] mit Ihrem Kollegen gesprochen",
    ),
    bridges=(
        "{mention}. Darum geht es heute nicht: {problem}",
        "{mention}, aber jetzt das: {problem}",
        "{problem}. Übrigens: {mention}",
        "{mention}. Nun etwas anderes: {problem}",
        "{mention}. {problem}",
        "{problem}. Mit dem letzten Mal hat das nichts zu tun, {mention}",
    ),
    closings=(
        "[danke|vielen Dank|danke schön]",
        "[viele|beste|freundliche] Grüße",
        "[danke im Voraus|danke und Gruß|tschüss]",
        "mit freundlichen Grüßen",
        "Grüße aus {city}",
    ),
    words={
        **ENGLISH.words,
        "product": (
            "BrewBox",
            "Wasserkocher",
            "Aroma Pro",
            "Mühle X2",
            "Cold Drip",
            "Steam Mini",
            "Teeturm",
            "Milchschäumer",
            "Wasserfilter",
            "Reisebecher",
            "Espressomaschine",
            "Kaffeewaage",
        ),
        "plan": ("Basic", "Plus", "Team", "Familie", "Büro", "Jahr", "Monat", "Kaffee"),
        "screen": (
            "Bestellliste",
            "Übersicht",
            "Rezepte",
            "Timer",
            "Statistik",
            "Suche",
            "Warenkorb",
            "Start",
            "Kalender",
            "Karte",
        ),
        "feature": (
            "ein dunkles Design",
            "ein Export nach Excel",
            "ein Widget fürs Handy",
            "{small} weitere Sprachen",
            "ein Wochenbericht",
            "eine Sprachsteuerung",
            "geteilte Rezepte",
            "eine größere Schrift",
            "ein Offline-Modus",
            "Erinnerungen",
            "ein Barcode-Scanner",
            "ein Filter nach Datum",
        ),
        "device": ("iPhone", "Android-Handy", "Pixel", "iPad", "Tablet", "Windows-Laptop", "MacBook", "Galaxy-Handy"),
        "carrier": ("DHL", "UPS", "DPD", "die Post", "Hermes", "GLS"),
        "city": ("Leipzig", "Bremen", "Kassel", "Graz", "Basel", "Ulm", "Kiel", "Mainz", "Wien", "Bonn", "Erfurt"),
        "street": ("Lindenstraße", "Bahnhofstraße", "Gartenstraße", "Hauptstraße", "Brückenstraße", "Mühlgasse"),
        "month": (
            "Januar",
            "Februar",
            "März",
            "April",
            "Mai",
            "Juni",
            "Juli",
            "August",
            "September",
            "Oktober",
            "November",
            "Dezember",
        ),
        "day": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
        "date": ("{daynumber}. {month}", "{daynumber}.{small}."),
        "order": ("{digits}", "#{digits}", "SH-{digits}", "Nr. {digits}"),
        "ago": ("vor {small} Wochen", "vor {small} Tagen", "letzten Monat", "letzten {day}", "vor einer Weile"),
    },
    asking=("können", "könnten", "ist", "sind", "wie", "wo", "wann", "was", "brauchen"),
    plain_letters={"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"},
)
