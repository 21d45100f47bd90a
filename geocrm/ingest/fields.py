"""What can be imported: the fields of each kind, their types, and what the usual exports call them.

Headers are compared after folding: lower case, no accents, no blanks or punctuation. So `Postal Code`, `postal_code`
and `PostalCode` are one. A header ending in `*` in `headers` matches by prefix. The names were collected from the
export screens and documentation of Salesforce, HubSpot, Dynamics 365, Shopify, WooCommerce and Odoo, and from everyday
English, German, French and Spanish.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from geocrm.db.models.customers import KINDS, STAGES
from geocrm.db.models.interactions import INTERACTION_KINDS
from geocrm.db.models.places import PLACE_KINDS
from geocrm.errors import Invalid

Type = Literal[
    "text", "id", "number", "money", "integer", "time", "boolean", "choice", "country", "currency", "email", "phone",
    "lon", "lat", "metres", "geometry", "crs", "json",
]  # fmt: skip

Kind = Literal["customers", "sales", "interactions", "places", "areas", "products"]
KINDS_OF_IMPORT: tuple[Kind, ...] = ("customers", "sales", "interactions", "places", "areas", "products")


@dataclass(frozen=True)
class Field:
    """One thing that a column can be. `headers`: what others call it, folded, best first; `vague_headers`: what means
    it where every value is one of its choices."""

    name: str
    type: Type
    about: str
    headers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    max_length: int = 500
    vague_headers: tuple[str, ...] = ()


_SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "&": "and"})


def fold(text: str) -> str:
    """A header for comparison: no accents, case, blanks or punctuation; ä is ae, ß is ss, & is and."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFC", text).translate(_SPELT_OUT))
    return re.sub(r"[^a-z0-9]", "", "".join(c for c in plain if not unicodedata.combining(c)).lower())


def _h(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_ADDRESS = (
    Field(
        "line1",
        "text",
        "street and number",
        _h(
            "line1 address1 addressline1 street street1 streetaddress billingstreet mailingstreet "
            "shippingstreet shippingaddress1 billingaddress1 defaultaddressaddress1 address1street1 "
            "address1line1 address strasse strassehausnummer anschrift adresse adresse1 rue direccion calle "
            "domicilio addressstreet contactaddress streetname"
        ),
    ),
    Field(
        "line2",
        "text",
        "second address line",
        _h(
            "line2 address2 addressline2 street2 billingaddress2 shippingaddress2 defaultaddressaddress2 "
            "address1street2 address1line2 adresszusatz zusatz complementadresse complement direccion2 suite"
        ),
    ),
    Field(
        "city",
        "text",
        "town",
        _h(
            "city town billingcity mailingcity shippingcity defaultaddresscity address1city ort stadt wohnort "
            "ville commune ciudad localidad poblacion municipio addresscity suburb locality"
        ),
    ),
    Field(
        "region",
        "text",
        "state or province, as a code where it has one",
        _h(
            "statecode regioncode provincecode billingstate mailingstate shippingstate billingprovince "
            "shippingprovince defaultaddressprovincecode defaultaddressprovince address1stateorprovince "
            "stateprovince stateorprovince stateregion state region province bundesland kanton land1 "
            "departement provincia estado comunidadautonoma addressstate county"
        ),
    ),
    Field(
        "postal_code",
        "text",
        "postal code, as text",
        _h(
            "postalcode zip zipcode postcode billingzip shippingzip mailingzip billingpostalcode "
            "mailingpostalcode shippingpostalcode billingpostcode shippingpostcode defaultaddresszip "
            "address1postalcode address1zippostalcode plz postleitzahl codepostal cp codigopostal "
            "zippostalcode zippostcode addresszip"
        ),
        max_length=20,
    ),
    Field(
        "country",
        "country",
        "country, by name or code",
        _h(
            "countrycode billingcountrycode shippingcountrycode billingcountry mailingcountry shippingcountry "
            "defaultaddresscountrycode address1country country countryregion land laendercode staat pays "
            "codepays pais countryid addresscountry countryiso nation"
        ),
    ),
    Field(
        "lon",
        "lon",
        "longitude in degrees, or x in the reference system of the recipe",
        _h(
            "lon longitude lng long geolongitude x xcoordinate xcoord laengengrad laenge longitud "
            "billinglongitude mailinglongitude shippinglongitude address1longitude partnerlongitude "
            "geolocationlongitude easting rechtswert"
        ),
    ),
    Field(
        "lat",
        "lat",
        "latitude in degrees, or y in the reference system of the recipe",
        _h(
            "lat latitude geolatitude y ycoordinate ycoord breitengrad breite latitud billinglatitude "
            "mailinglatitude shippinglatitude address1latitude partnerlatitude geolocationlatitude northing "
            "hochwert"
        ),
    ),
    Field(
        "geometry",
        "geometry",
        "a point as WKT, EWKT or hexadecimal WKB",
        _h("geometry geom wkt thegeom wkbgeometry shape ewkt"),
    ),
    Field("crs", "crs", "reference system of this row, where rows differ", _h("crs srid epsg epsgcode")),
    Field(
        "precision_m",
        "metres",
        "radius in metres that holds the true point in 95 % of cases",
        _h("precisionm accuracym accuracy"),
    ),
)

_CUSTOMERS = (
    Field(
        "external_id",
        "id",
        "what the source calls the customer",
        _h(
            "externalid customerid customernumber customerno customerkey customercode accountid accountnumber "
            "accountno account18digitid recordid contactid companyid clientid clientnumber kundennummer "
            "kundennr kdnr kundenid kunde debitor debitorennummer numeroclient numclient idclient codeclient "
            "clienteid idcliente codigocliente numerocliente nocliente userid partnerid leadid id"
        ),
        max_length=200,
    ),
    Field(
        "name",
        "text",
        "name of the person or organisation",
        _h(
            "name customername accountname fullname companyname company organisation organization "
            "organizationname organisationname displayname firma firmenname kundenname nachnamevorname "
            "nomcomplet raisonsociale societe entreprise nomclient nombrecompleto razonsocial empresa "
            "nombrecliente cliente client businessname billingcompany defaultaddresscompany storename"
        ),
    ),
    Field(
        "first_name",
        "text",
        "given name, joined with the last name",
        _h("firstname givenname billingfirstname vorname prenom nombre contactfirstname forename"),
    ),
    Field(
        "last_name",
        "text",
        "family name",
        _h(
            "lastname surname familyname billinglastname nachname familienname nom nomdefamille apellido "
            "apellidos contactlastname"
        ),
    ),
    Field(
        "kind",
        "choice",
        "person or organisation",
        _h("kind customerkind persontype kundenart recordtype iscompany"),
        KINDS,
        vague_headers=_h("type customertype accounttype clienttype typ kundentyp tipo"),
    ),
    Field(
        "stage",
        "choice",
        "prospect, lead, active or lapsed",
        _h(
            "stage lifecyclestage customerstage status customerstatus accountstatus leadstatus kundenstatus "
            "statut estado1 statuscode"
        ),
        STAGES,
    ),
    Field(
        "parent",
        "id",
        "the customer above it, by its external id",
        _h(
            "parent parentid parentaccount parentaccountid parentcompany parentcompanyid parentexternalid "
            "parentcustomer uebergeordneterkunde konzern muttergesellschaft societemere empresamatriz"
        ),
        max_length=200,
    ),
    Field(
        "owner",
        "text",
        "the rep responsible, by e-mail, name or usr_ id",
        _h(
            "owner owneremail accountowner accountowneremail contactowner companyowner leadowner ownerid "
            "ownername salesperson salesrep salespersonemail betreuer kundenbetreuer aussendienst vertreter "
            "vendeur commercial responsable vendedor"
        ),
    ),
    Field(
        "industry",
        "text",
        "branch of trade",
        _h("industry branche sector secteur secteurdactivite industria sectorindustrial industryname"),
    ),
    Field(
        "size_class",
        "text",
        "size of the organisation",
        _h(
            "sizeclass size companysize numberofemployees employees noofemployees mitarbeiter mitarbeiterzahl "
            "groessenklasse effectif empleados numeroempleados"
        ),
    ),
    Field(
        "preferred_channel",
        "text",
        "how it wants to be reached",
        _h("preferredchannel preferredcontactmethod preferredmethodofcontact contactpreference bevorzugterkanal"),
    ),
    Field(
        "site_id",
        "id",
        "what the source calls the address, where a customer has several",
        _h(
            "siteid siteexternalid addressid addresskey locationid branchid standortid filialnummer adressid "
            "idadresse iddireccion"
        ),
        max_length=200,
    ),
    Field(
        "label",
        "text",
        "what the address is called",
        _h(
            "label sitename addressname addresslabel addresstype address1name standort filiale libelle "
            "etiqueta locationname"
        ),
    ),
    Field(
        "is_primary",
        "boolean",
        "whether this is the customer's main address",
        _h(
            "isprimary primary primaryaddress mainaddress hauptadresse hauptsitz adresseprincipale principal "
            "defaultaddress"
        ),
    ),
    *_ADDRESS,
    Field(
        "contact_name",
        "text",
        "a person to talk to",
        _h(
            "contactname contact primarycontact contactfullname ansprechpartner kontakt kontaktperson "
            "interlocuteur contacto"
        ),
    ),
    Field(
        "contact_role",
        "text",
        "what that person does",
        _h("contactrole contacttitle jobtitle jobposition function position rolle fonction cargo puesto"),
    ),
    Field(
        "email",
        "email",
        "e-mail address",
        _h(
            "email emailaddress mail billingemail customeremail contactemail emailadresse emailprimary email1 "
            "emailaddress1 primaryemail courriel adressemail correo correoelectronico workemail"
        ),
    ),
    Field(
        "phone",
        "phone",
        "telephone number",
        _h(
            "phone phonenumber telephone mobile mobilephone mainphone businessphone billingphone "
            "defaultaddressphone telefon telefonnummer handy mobil rufnummer tel telefono movil telefone "
            "phone1 telephone1 portable"
        ),
        max_length=60,
    ),
)

_SALES = (
    Field(
        "external_id",
        "id",
        "what the source calls the sale; rows with the same one are its lines",
        _h(
            "externalid saleid ordernumber orderid orderno order ordername invoicenumber invoiceid invoiceno "
            "salesorderid salesordernumber receiptnumber transactionid orderreference auftragsnummer "
            "auftragsnr bestellnummer bestellnr belegnummer rechnungsnummer rechnungsnr numerocommande "
            "commande numerofacture numeropedido pedido numerofactura id name"
        ),
        max_length=200,
    ),
    Field(
        "customer",
        "id",
        "the customer, by its external id",
        _h(
            "customer customerid customerexternalid customernumber customerkey customerno accountid "
            "accountnumber clientid kundennummer kundennr kdnr kundenid numeroclient idclient codeclient "
            "idcliente clienteid codigocliente companyid userid partnerid billtocustomer soldto customeruser "
            "contactid"
        ),
        max_length=200,
    ),
    Field(
        "occurred_at",
        "time",
        "when it was sold",
        _h(
            "occurredat orderdate saledate saleddate datetime date createdat paidat orderedat invoicedate "
            "transactiondate closedate purchasedate datum auftragsdatum bestelldatum rechnungsdatum "
            "belegdatum datecommande datefacture fecha fechapedido fechafactura creationdate dateorder "
            "processedat"
        ),
    ),
    Field(
        "line_no",
        "integer",
        "number of the line in the sale",
        _h(
            "lineno linenumber line lineitem orderlineitem orderline position positionsnummer pos ligne linea "
            "lineitemid sequence"
        ),
    ),
    Field(
        "product",
        "id",
        "the product, by its external id or SKU",
        _h(
            "product productid productkey productsku sku lineitemsku itemsku itemnumber itemid productcode "
            "productnumber articlenumber artikelnummer artikelnr artikel referenceproduit reference "
            "codearticle codigoproducto referencia item"
        ),
        max_length=200,
    ),
    Field(
        "product_name",
        "text",
        "name of the product",
        _h(
            "productname lineitemname itemname productdescription artikelbezeichnung bezeichnung produkt "
            "produktname designation nomproduit nombreproducto producto producttitle linedescription "
            "description"
        ),
    ),
    Field(
        "category",
        "text",
        "category of the product",
        _h(
            "category productcategory warengruppe kategorie categorie familleproduit categoria producttype productgroup"
        ),
    ),
    Field(
        "quantity",
        "number",
        "how many",
        _h(
            "quantity qty orderquantity orderqty lineitemquantity itemquantity menge anzahl stueck quantite "
            "cantidad unidades units"
        ),
    ),
    Field(
        "unit_price",
        "money",
        "price of one",
        _h(
            "unitprice price productprice lineitemprice itemcost itemprice einzelpreis stueckpreis preis "
            "prixunitaire prix preciounitario precio priceunit listprice"
        ),
    ),
    Field(
        "amount",
        "money",
        "amount of the line, discount taken off",
        _h(
            "amount lineamount linetotal total subtotal itemtotal ordertotal netamount nettobetrag betrag "
            "summe umsatz zeilenbetrag gesamtpreis montant total1 montanttotal importe totallinea sales "
            "revenue"
        ),
    ),
    Field(
        "unit_cost",
        "money",
        "cost of one",
        _h("unitcost productcost costperitem standardcost stueckkosten einstandspreis coutunitaire"),
    ),
    Field("cost", "money", "cost of the line", _h("cost linecost totalcost kosten cout coste")),
    Field(
        "discount",
        "money",
        "discount on the line",
        _h("discount discountamount linediscount lineitemdiscount rabatt nachlass remise descuento"),
    ),
    Field(
        "currency",
        "currency",
        "ISO code of the currency",
        _h("currency currencycode currencyisocode waehrung devise moneda divisa ordercurrency"),
    ),
    Field(
        "channel",
        "text",
        "how it was sold",
        _h("channel saleschannel sourcename vertriebskanal kanal canal canaldevente canalventa"),
    ),
    Field(
        "place",
        "id",
        "the shop, by its external id",
        _h("place placeid shopid storeid storenumber filiale filialnummer magasin tienda"),
        max_length=200,
    ),
    Field(
        "site_id",
        "id",
        "the customer's site, by its external id",
        _h("siteid shiptosite addressid standortid"),
        max_length=200,
    ),
    Field(
        "returned",
        "boolean",
        "whether it came back",
        _h("returned isreturn return retoure storniert refunded retour devolucion"),
    ),
)

_INTERACTIONS = (
    Field(
        "external_id",
        "id",
        "what the source calls it",
        _h(
            "externalid activityid interactionid taskid eventid caseid ticketid casenumber ticketnumber "
            "callid emailid engagementid aktivitaetsnummer vorgangsnummer ticketnummer idactivite idactividad "
            "recordid id"
        ),
        max_length=200,
    ),
    Field(
        "customer",
        "id",
        "the customer, by its external id",
        _h(
            "customer customerid customerexternalid customernumber accountid accountnumber whatid relatedtoid "
            "companyid contactid clientid kundennummer kundennr kdnr numeroclient idclient idcliente "
            "partnerid associatedcompanyid associatedcontactid"
        ),
        max_length=200,
    ),
    Field(
        "kind",
        "choice",
        "call, email, visit, note, ticket, feedback, survey or complaint",
        _h(
            "kind type activitytype interactiontype tasksubtype tasktype engagementtype art aktivitaetsart "
            "typ typeactivite tipo tipoactividad casetype"
        ),
        INTERACTION_KINDS,
    ),
    Field(
        "occurred_at",
        "time",
        "when it took place",
        _h(
            "occurredat activitydate date datetime createddate createdate createdat startdate startdatetime "
            "timestamp duedate datum zeitpunkt fecha starttime activitydatetime completeddate scheduledstart "
            "actualstart"
        ),
    ),
    Field("channel", "text", "by which means", _h("channel origin caseorigin kanal canal medium")),
    Field(
        "direction",
        "choice",
        "in or out",
        _h("direction calltype calldirection richtung sens direccionllamada directioncode"),
        ("in", "out"),
    ),
    Field("department", "text", "which department", _h("department team abteilung service departamento queue")),
    Field(
        "user",
        "text",
        "who of us, by e-mail, name or usr_ id",
        _h(
            "user useremail owner owneremail assignedto assignee ownerid createdby bearbeiter zustaendig "
            "utilisateur usuario agent rep"
        ),
    ),
    Field(
        "subject",
        "text",
        "what about",
        _h("subject title topic betreff titel objet sujet asunto name activitysubject casesubject"),
    ),
    Field(
        "body",
        "text",
        "the text",
        _h(
            "body description comments comment notes note text message details content beschreibung notiz "
            "bemerkung kommentar texte commentaire nota texto comentario"
        ),
        max_length=100_000,
    ),
    Field(
        "outcome",
        "text",
        "what came of it",
        _h("outcome result status disposition calldisposition callresult ergebnis resultat resultado"),
    ),
    Field("score", "number", "a rating", _h("score rating nps csat bewertung note1 puntuacion satisfaction")),
    Field(
        "follow_up_at",
        "time",
        "when to come back to it",
        _h("followupat followup followupdate nextstepdate wiedervorlage relance seguimiento reminder"),
    ),
    *(field for field in _ADDRESS if field.name in ("lon", "lat", "geometry", "crs")),
)

_PLACES = (
    Field(
        "external_id",
        "id",
        "what the source calls the place",
        _h(
            "externalid placeid storeid storenumber shopid branchid licenseid accountnumber filialnummer "
            "standortid locationid idmagasin idtienda codigo id"
        ),
        max_length=200,
    ),
    Field(
        "kind",
        "choice",
        "own, competitor, depot or branch",
        _h("kind placekind type storetype art typ tipo"),
        PLACE_KINDS,
    ),
    Field(
        "name",
        "text",
        "name of the place",
        _h("name storename placename shopname branchname filiale bezeichnung nom nommagasin nombre tienda"),
    ),
    Field("brand", "text", "brand or chain", _h("brand chain banner marke kette enseigne marca cadena")),
    *(field for field in _ADDRESS if field.name != "line2"),
    Field(
        "floor_area_m2",
        "number",
        "floor area, square metres",
        _h("flooraream2 floorarea salesarea verkaufsflaeche flaeche surface superficie sqm squaremeters squaremetres"),
    ),
)

_AREAS = (
    Field(
        "external_id",
        "id",
        "what the source calls the area",
        _h(
            "externalid areaid territorykey territoryid territorycode geoid fips code key plz postalcode "
            "gebietsnummer gebietsid idzone codigo id name"
        ),
        max_length=200,
    ),
    Field(
        "name",
        "text",
        "name of the area",
        _h("name areaname territory territoryname label gebiet gebietsname nom zone nombre zona title"),
    ),
    Field(
        "owner",
        "text",
        "the rep it belongs to, by e-mail, name or usr_ id",
        _h("owner owneremail rep salesrep vertreter responsable"),
    ),
    Field("team", "text", "the team it belongs to, by name", _h("team teamname mannschaft equipe equipo")),
    Field(
        "priority",
        "integer",
        "which wins where areas overlap: the higher one",
        _h("priority prioritaet priorite prioridad rank"),
    ),
    Field("rule", "json", "rule on attributes, in the filter language", _h("rule filter regel regle regla")),
    Field(
        "geometry",
        "geometry",
        "polygon as WKT, EWKT or hexadecimal WKB",
        _h("geometry geom wkt thegeom wkbgeometry shape ewkt"),
        max_length=50_000_000,
    ),
    Field("crs", "crs", "reference system of this row, where rows differ", _h("crs srid epsg epsgcode")),
)

_PRODUCTS = (
    Field(
        "external_id",
        "id",
        "what the source calls the product",
        _h(
            "externalid productid productkey productcode sku itemnumber itemid variantsku productnumber "
            "artikelnummer artikelnr reference referencia handle id"
        ),
        max_length=200,
    ),
    Field(
        "sku",
        "text",
        "stock keeping unit",
        _h("sku productsku variantsku itemsku internalreference artikelnummer"),
        max_length=200,
    ),
    Field(
        "name",
        "text",
        "name of the product",
        _h("name productname title itemname bezeichnung produktname designation nomproduit nombre"),
    ),
    Field(
        "category",
        "text",
        "category",
        _h("category productcategory type producttype warengruppe kategorie categorie categoria"),
    ),
    Field(
        "unit_price",
        "money",
        "price of one",
        _h("unitprice price listprice productprice variantprice regularprice salesprice preis prix precio"),
    ),
    Field(
        "unit_cost",
        "money",
        "cost of one",
        _h("unitcost cost standardcost productcost costperitem einstandspreis cout coste"),
    ),
    Field("currency", "currency", "ISO code of the currency", _h("currency currencycode waehrung devise moneda")),
)

FIELDS: dict[str, dict[str, Field]] = {
    kind: {field.name: field for field in fields}
    for kind, fields in (
        ("customers", _CUSTOMERS),
        ("sales", _SALES),
        ("interactions", _INTERACTIONS),
        ("places", _PLACES),
        ("areas", _AREAS),
        ("products", _PRODUCTS),
    )
}

# Each entry: one of these sets must be given by columns or constants.
REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {
    "customers": (("external_id",), ("name", "last_name", "first_name", "contact_name", "email")),
    "sales": (("external_id",), ("customer",), ("occurred_at",), ("amount", "unit_price"), ("currency",)),
    "interactions": (("external_id",), ("customer",), ("occurred_at",), ("kind",)),
    "places": (("external_id",), ("name",)),
    "areas": (("external_id",), ("name",)),
    "products": (("external_id",), ("name",)),
}

WITH_ATTRIBUTES = frozenset({"customers", "places", "areas", "products"})

# What source systems say for our choices, folded.
SYNONYMS: dict[str, dict[str, str]] = {
    "customers.stage": {
        "prospect": "prospect",
        "potential": "prospect",
        "interessent": "prospect",
        "subscriber": "prospect",
        "suspect": "prospect",
        "cold": "prospect",
        "open": "prospect",
        "new": "prospect",
        "neu": "prospect",
        "piste": "prospect",
        "potencial": "prospect",
        "lead": "lead",
        "qualified": "lead",
        "marketingqualifiedlead": "lead",
        "salesqualifiedlead": "lead",
        "mql": "lead",
        "sql": "lead",
        "opportunity": "lead",
        "warm": "lead",
        "working": "lead",
        "contacted": "lead",
        "qualifiziert": "lead",
        "customer": "active",
        "active": "active",
        "kunde": "active",
        "aktiv": "active",
        "evangelist": "active",
        "existing": "active",
        "bestandskunde": "active",
        "client": "active",
        "actif": "active",
        "cliente": "active",
        "activo": "active",
        "won": "active",
        "lapsed": "lapsed",
        "inactive": "lapsed",
        "former": "lapsed",
        "churned": "lapsed",
        "lost": "lapsed",
        "inaktiv": "lapsed",
        "ehemalig": "lapsed",
        "inactif": "lapsed",
        "perdu": "lapsed",
        "inactivo": "lapsed",
        "formercustomer": "lapsed",
    },
    "customers.kind": {
        "person": "person",
        "individual": "person",
        "b2c": "person",
        "consumer": "person",
        "private": "person",
        "privat": "person",
        "privatkunde": "person",
        "personne": "person",
        "particulier": "person",
        "persona": "person",
        "contact": "person",
        "false": "person",
        "0": "person",
        "no": "person",
        "organisation": "organisation",
        "organization": "organisation",
        "company": "organisation",
        "business": "organisation",
        "b2b": "organisation",
        "account": "organisation",
        "firma": "organisation",
        "unternehmen": "organisation",
        "geschaeftskunde": "organisation",
        "entreprise": "organisation",
        "societe": "organisation",
        "empresa": "organisation",
        "true": "organisation",
        "1": "organisation",
        "yes": "organisation",
    },
    "interactions.kind": {
        "call": "call",
        "phonecall": "call",
        "phone": "call",
        "anruf": "call",
        "telefonat": "call",
        "appel": "call",
        "llamada": "call",
        "email": "email",
        "mail": "email",
        "incomingemail": "email",
        "emailactivity": "email",
        "courriel": "email",
        "correo": "email",
        "visit": "visit",
        "meeting": "visit",
        "appointment": "visit",
        "event": "visit",
        "besuch": "visit",
        "termin": "visit",
        "visite": "visit",
        "rendezvous": "visit",
        "visita": "visit",
        "reunion": "visit",
        "checkin": "visit",
        "note": "note",
        "task": "note",
        "todo": "note",
        "notiz": "note",
        "aufgabe": "note",
        "nota": "note",
        "other": "note",
        "ticket": "ticket",
        "case": "ticket",
        "incident": "ticket",
        "supportcase": "ticket",
        "question": "ticket",
        "problem": "ticket",
        "feedback": "feedback",
        "review": "feedback",
        "bewertung": "feedback",
        "avis": "feedback",
        "opinion": "feedback",
        "survey": "survey",
        "umfrage": "survey",
        "enquete": "survey",
        "encuesta": "survey",
        "nps": "survey",
        "complaint": "complaint",
        "beschwerde": "complaint",
        "reklamation": "complaint",
        "reclamation": "complaint",
        "queja": "complaint",
        "reclamacion": "complaint",
    },
    "interactions.direction": {
        "in": "in",
        "inbound": "in",
        "incoming": "in",
        "received": "in",
        "eingehend": "in",
        "entrant": "in",
        "entrante": "in",
        "out": "out",
        "outbound": "out",
        "outgoing": "out",
        "sent": "out",
        "ausgehend": "out",
        "sortant": "out",
        "saliente": "out",
        "internal": "out",
    },
    "places.kind": {
        "own": "own",
        "shop": "own",
        "store": "own",
        "eigen": "own",
        "propre": "own",
        "propio": "own",
        "filiale": "own",
        "competitor": "competitor",
        "competition": "competitor",
        "wettbewerber": "competitor",
        "konkurrent": "competitor",
        "concurrent": "competitor",
        "competidor": "competitor",
        "depot": "depot",
        "warehouse": "depot",
        "lager": "depot",
        "entrepot": "depot",
        "almacen": "depot",
        "branch": "branch",
        "office": "branch",
        "niederlassung": "branch",
        "succursale": "branch",
        "sucursal": "branch",
    },
}

# What the flags of a row mean.
FLAGS = {
    "zero": "coordinates at (0, 0)",
    "swapped": "longitude and latitude look swapped",
    "out_of_country": "over 25 km outside its country",
    "email": "unlikely e-mail address",
    "phone": "unlikely telephone number",
    "owner_unknown": "owner not known",
    "user_unknown": "user not known",
    "parent_unknown": "parent not known",
    "parent_circular": "is its own parent",
    "site_id_taken": "the id of its site is another customer's",
    "repaired": "polygon mended",
}

# Columns that our own rejected files add; ignored when such a file comes back.
REJECTED_COLUMNS = ("_line", "_column", "_reason")


def field_of(kind: str, name: str) -> Field:
    """The field of a kind by its name; any `attributes.…` where the kind has attributes. Raises Invalid naming the
    choices.
    """
    if kind not in FIELDS:
        raise Invalid(f"“{kind}” cannot be imported; possible are {', '.join(FIELDS)}.")
    if (found := FIELDS[kind].get(name)) is not None:
        return found
    if kind in WITH_ATTRIBUTES and name.startswith("attributes.") and len(name) > len("attributes."):
        return Field(name, "text", "an attribute of your own", max_length=10_000)
    raise Invalid(
        f"{kind} have no field “{name}”; fields are {', '.join(FIELDS[kind])}"
        + (" and attributes.…" if kind in WITH_ATTRIBUTES else "")
        + "."
    )


def match(kind: str, columns: list[str]) -> dict[str, str]:
    """The likely meaning of each column: {field: column}. A column serves one field, the field whose list names it
    earliest.
    """
    folded = {column: fold(column) for column in columns if column not in REJECTED_COLUMNS}
    found: dict[str, str] = {}
    taken: set[str] = set()
    for column in folded:
        if kind in WITH_ATTRIBUTES and column.lower().startswith("attributes.") and len(column) > 11:
            found["attributes." + column[11:]] = column
            taken.add(column)
    candidates = sorted(
        (field.headers.index(name), position, field.name, column)
        for position, field in enumerate(FIELDS[kind].values())
        for column, name in folded.items()
        if column not in taken and name in field.headers
    )
    # our own names win over everything, then the earliest mention of a header in any field's list
    for exact in (True, False):
        for _, _, field_name, column in candidates:
            if column in taken or field_name in found or (exact and folded[column] != fold(field_name)):
                continue
            found[field_name] = column
            taken.add(column)
    if "external_id" not in found:  # an SKU or a name may serve as the id too
        doubled = [entry for entry in candidates if entry[2] == "external_id"]
        if doubled:
            found["external_id"] = doubled[0][3]
    order = list(FIELDS[kind])
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))
