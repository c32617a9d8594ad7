"""The shops of the sample receipts. All of them, their addresses and their prices are invented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["piece", "kg", "litre", "night"]


@dataclass(frozen=True)
class Product:
    """Something to buy; `price` in thousandths of the currency, since petrol is priced so; `rate` picks a tax rate."""

    name: str
    price: int
    rate: int = 0
    unit: Unit = "piece"


@dataclass(frozen=True)
class Shop:
    """A shop; `rates` are its tax rates in hundredths of a percent, contained in its prices or added to them."""

    merchant: str
    category: str
    language: str
    currency: str
    address: tuple[str, ...]
    tax_name: str
    rates: tuple[int, ...]
    tax_included: bool
    products: tuple[Product, ...]


def _products(table: str) -> tuple[Product, ...]:
    """Read `name; price; rate; unit`, the last two with defaults."""
    products = []
    for row in table.strip().splitlines():
        name, price, *rest = (field.strip() for field in row.split(";"))
        rate = int(rest[0]) if rest else 0
        unit: Unit = "piece"
        if len(rest) > 1:
            unit = {"kg": "kg", "l": "litre", "n": "night"}[rest[1]]  # type: ignore[assignment]
        products.append(Product(name, round(float(price) * 1000), rate, unit))
    return tuple(products)


_GROCERIES = Shop(
    "Harbor Lane Market", "groceries", "en", "USD",
    ("418 Harbor Lane", "Port Alder, WA 98000", "Tel (555) 555-0142"),
    "SALES TAX", (0, 890), False,
    _products("""
        ORG WHOLE MILK 1GAL; 5.49
        SOURDOUGH BREAD; 4.29
        BANANAS; 1.52; 0; kg
        LARGE EGGS 12CT; 3.99
        CHEDDAR SHARP 8OZ; 4.79
        BABY SPINACH 5OZ; 3.49
        PAPER TOWELS 6PK; 9.99; 1
        DISH SOAP LEMON; 3.29; 1
        ROMA TOMATOES; 4.39; 0; kg
        ALMOND BUTTER; 8.99
        SPARKLING WATER 12PK; 6.49; 1
        GREEK YOGURT PLAIN; 1.29
    """),
)  # fmt: skip
_PHARMACY = Shop(
    "Willow & Reed Pharmacy", "pharmacy", "en", "GBP",
    ("7 Chandler Row", "Easterby EB1 4ZZ", "01632 960118"),
    "VAT", (2000, 0), True,
    _products("""
        Paracetamol 500mg 16s; 0.89
        Ibuprofen Gel 50g; 4.75
        Plasters Assorted 40; 2.65
        Toothpaste Mint 75ml; 2.20
        Vitamin D3 90 tabs; 6.50
        Cough Syrup 200ml; 5.29
        Hand Cream 100ml; 3.99
        Prescription Charge; 9.90; 1
        Lens Solution 360ml; 7.45
        Sun Lotion SPF50; 8.00
    """),
)  # fmt: skip
_PETROL = Shop(
    "Tankhof Nordheide", "petrol", "de", "EUR",
    ("Heidestraße 203", "29999 Lindenbrück", "St.-Nr. 00/000/00000"),
    "MwSt", (1900, 700), True,
    _products("""
        Super E10; 1.739; 0; l
        Diesel; 1.659; 0; l
        Super Plus; 1.879; 0; l
        Scheibenklar 2L; 5.99
        Kaffee Crema groß; 2.89
        Käsebrötchen; 3.19; 1
        Mineralwasser 0,5L; 1.79
        Autowäsche Basis; 8.50
        Schokoriegel; 1.49; 1
    """),
)  # fmt: skip
_DINER = Shop(
    "The Copper Ladle", "restaurant", "en", "USD",
    ("92 Mill Street", "Fairhollow, OR 97000", "(555) 555-0177"),
    "TAX", (650,), False,
    _products("""
        Tomato Bisque; 7.50
        Caesar Salad; 11.00
        Grilled Trout; 24.50
        Mushroom Risotto; 19.00
        Buttermilk Burger; 16.75
        Sweet Potato Fries; 6.25
        Iced Tea; 3.50
        House Red Glass; 9.00
        Apple Crumble; 8.25
        Espresso; 3.25
    """),
)  # fmt: skip
_HARDWARE = Shop(
    "Beam & Bolt Hardware", "hardware", "en", "CAD",
    ("1550 Foundry Road", "Silver Narrows ON", "GST/HST 00000 0000 RT0001"),
    "HST", (1300,), False,
    _products("""
        WOOD SCREW 8X2 100PK; 11.49
        PAINT ROLLER 9IN; 7.99
        LED BULB 60W 4PK; 12.99
        MASKING TAPE 36MM; 5.49
        EXTENSION CORD 5M; 18.99
        HAMMER 16OZ; 22.49
        PVC PIPE 1/2IN; 4.79
        SANDPAPER 120G; 6.29
        CORDLESS DRILL 18V; 129.00
        CAULK WHITE; 8.49
    """),
)  # fmt: skip
_BOOKSHOP = Shop(
    "Paper Lantern Books", "bookshop", "en", "GBP",
    ("23 Quill Street", "Marrowick MW2 9ZZ", "01632 960455"),
    "VAT", (0, 2000), True,
    _products("""
        The Salt Cartographer; 9.99
        A Field of Clocks; 14.99
        Winter Orchards; 8.99
        Notebook Dotted A5; 7.50; 1
        Greeting Card; 2.95; 1
        Bread in Five Folds; 22.00
        Owls of the Old Canal; 6.99
        Bookmark Brass; 4.25; 1
        Tide Tables (poems); 10.99
    """),
)  # fmt: skip
_HOTEL = Shop(
    "Hotel Seeblick am Weiher", "hotel", "de", "EUR",
    ("Uferweg 12", "88888 Oberweiher", "USt-IdNr. DE000000000"),
    "USt", (700, 1900), True,
    _products("""
        Doppelzimmer Seeseite; 128.00; 0; n
        Einzelzimmer; 84.50; 0; n
        Frühstücksbuffet; 17.50; 1
        Parkplatz; 9.00; 1
        Minibar; 6.80; 1
        Sauna; 14.00; 1
        Abendmenü; 32.00; 0
    """),
)  # fmt: skip
_PANADERIA = Shop(
    "Panadería La Espiga Azul", "bakery", "es", "EUR",
    ("Calle del Molino 8", "00000 Villaclara", "NIF B00000000"),
    "IVA", (400, 1000), True,
    _products("""
        Barra rústica; 1.35
        Pan integral 500g; 2.60
        Napolitana chocolate; 1.80; 1
        Empanada atún; 3.25; 1
        Café con leche; 1.70; 1
        Zumo de naranja; 2.90; 1
        Magdalenas 6 uds; 3.10; 1
        Pan de centeno; 3.40
        Ensaimada; 2.20; 1
    """),
)  # fmt: skip
_BISTROT = Shop(
    "Bistrot du Vieux Tilleul", "restaurant", "fr", "EUR",
    ("5 place du Tilleul", "00000 Saint-Aubrac", "SIRET 000 000 000 00000"),
    "TVA", (1000, 2000), True,
    _products("""
        Soupe à l'oignon; 8.50
        Œuf mayonnaise; 6.00
        Confit de canard; 19.50
        Gratin dauphinois; 5.50
        Tarte aux pommes; 7.20
        Verre Côtes rouge; 5.80; 1
        Carafe cidre; 9.00; 1
        Café; 2.30
        Plat du jour; 14.90
    """),
)  # fmt: skip
_KEDAI = Shop(
    "Kedai Runcit Pelangi", "groceries", "ms", "MYR",
    ("No 17 Jalan Kenari 2", "00000 Bandar Sentosa", "SSM 000000-X"),
    "SST", (0, 600), True,
    _products("""
        Beras wangi 5kg; 32.90
        Gula halus 1kg; 2.85
        Minyak masak 1kg; 6.90
        Telur gred A 10s; 4.60
        Mi segera kari 5s; 5.40
        Susu pekat; 3.70
        Ikan kembung; 15.90; 0; kg
        Sabun cuci 2kg; 14.50; 1
        Biskut kering; 4.20
        Kicap manis; 5.10
        Syampu 340ml; 12.90; 1
    """),
)  # fmt: skip
_WARUNG = Shop(
    "Restoran Daun Pandan", "restaurant", "ms", "MYR",
    ("Lot 3 Jalan Melur", "00000 Kuala Permai"),
    "CUKAI PERKHIDMATAN", (600,), False,
    _products("""
        Nasi lemak ayam; 9.50
        Roti canai; 1.80
        Mee goreng mamak; 8.00
        Satay ayam 10 cucuk; 12.00
        Teh tarik; 2.50
        Sirap bandung; 3.20
        Laksa utara; 8.90
        Cendol; 5.00
    """),
)  # fmt: skip
_DROGERIE = Shop(
    "Drogerie Lindenblatt", "drugstore", "de", "EUR",
    ("Marktplatz 4", "77777 Tannenfels", "Tel. 00000 / 12345"),
    "MwSt", (1900, 700), True,
    _products("""
        Shampoo Kamille; 1.95
        Zahnbürste weich; 2.45
        Küchenrolle 4er; 2.95
        Babybrei Apfel; 1.25; 1
        Waschmittel 20WL; 5.45
        Deo Roll-on; 1.75
        Kräutertee 20 Btl; 1.95; 1
        Taschentücher 30x10; 3.25
        Dinkelkekse; 1.65; 1
    """),
)  # fmt: skip
_COFFEE = Shop(
    "Second Kettle Coffee", "cafe", "en", "USD",
    ("301 Juniper Ave Unit B", "Cedar Point, CO 80000"),
    "TAX", (481,), False,
    _products("""
        Flat White 12oz; 4.75
        Cold Brew; 4.50
        Oat Milk Upcharge; 0.80
        Blueberry Scone; 3.95
        Avocado Toast; 9.50
        Beans 340g Ethiopia; 17.00
        Chai Latte; 5.25
        Bagel w/ Cream Cheese; 4.60
    """),
)  # fmt: skip
_CLOTHES = Shop(
    "Thistle and Thread", "clothing", "en", "GBP",
    ("Unit 14 Weavers Arcade", "Glenmorrow GM3 1ZZ", "01632 960771"),
    "VAT", (2000,), True,
    _products("""
        LAMBSWOOL SCARF; 24.00
        COTTON SOCKS 3PR; 9.50
        LINEN SHIRT M; 38.00
        DENIM JEANS 32R; 55.00
        RAIN JACKET L; 79.99
        BELT BROWN; 18.50
        BEANIE NAVY; 12.00
    """),
)  # fmt: skip
_FERRETERIA = Shop(
    "Ferretería El Tornillo", "hardware", "es", "EUR",
    ("Avda. de los Olivos 41", "00000 Puentealto", "CIF B00000000"),
    "IVA", (2100,), True,
    _products("""
        Tornillo 4x40 50 uds; 3.45
        Taco nylon 8mm; 2.10
        Brocha 50mm; 3.90
        Cinta aislante; 1.65
        Bombilla LED E27; 4.25
        Llave inglesa 10"; 14.80
        Silicona blanca; 5.60
        Candado 40mm; 7.95
        Regleta 4 tomas; 9.40
    """),
)  # fmt: skip
_SERVICE_STATION = Shop(
    "Bluegrass Fuel Stop", "petrol", "en", "USD",
    ("Exit 88 Route 9", "Dry Creek, KY 40000", "STORE 0088 PUMP 05"),
    "TAX", (0, 600), False,
    _products("""
        UNLEADED REGULAR; 0.899; 0; l
        DIESEL NO 2; 1.019; 0; l
        FOUNTAIN DRINK 32OZ; 1.89; 1
        BEEF JERKY; 6.99; 1
        TRAIL MIX; 3.49; 1
        WIPER FLUID; 4.29; 1
        ICE BAG 10LB; 3.99; 1
    """),
)  # fmt: skip

SHOPS = (
    _GROCERIES,
    _PHARMACY,
    _PETROL,
    _DINER,
    _HARDWARE,
    _BOOKSHOP,
    _HOTEL,
    _PANADERIA,
    _BISTROT,
    _KEDAI,
    _WARUNG,
    _DROGERIE,
    _COFFEE,
    _CLOTHES,
    _FERRETERIA,
    _SERVICE_STATION,
)
