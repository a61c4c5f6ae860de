import pytest

from shop.catalogue import Catalogue, Product

TEA = Product("Green Tea", 450)
CUP = Product("Cup", 900)
POT = Product("Tea Pot", 2900)


def test_a_slug_is_made_of_the_name():
    assert Product("Tea, 100 g!", 600).slug == "tea-100-g"


@pytest.mark.parametrize("name", ["", "  ", "!"])
def test_a_product_needs_a_name(name):
    with pytest.raises(ValueError, match="name"):
        Product(name, 100)


def test_a_price_is_not_negative():
    with pytest.raises(ValueError, match="negative"):
        Product("Tea", -1)


def test_products_are_found_by_slug():
    assert Catalogue([TEA, POT]).find("tea-pot") is POT


def test_an_unknown_slug_is_an_error():
    with pytest.raises(KeyError):
        Catalogue([]).find("coffee")


def test_search_wants_every_word():
    catalogue = Catalogue([POT, CUP, TEA])
    assert catalogue.search("tea") == [TEA, POT]
    assert catalogue.search("POT tea") == [POT]


def test_products_are_found_by_price():
    catalogue = Catalogue([POT, CUP, TEA])
    assert catalogue.priced(450, 900) == [TEA, CUP]
    assert catalogue.priced(451, 899) == []
