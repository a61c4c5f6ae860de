import pytest

from shop.catalogue import Catalogue, Product

TEA = Product("Green Tea", 450)
POT = Product("Tea Pot", 2900)


def test_a_slug_is_made_of_the_name():
    assert Product("Crème Brûlée!", 600).slug == "creme-brulee"


def test_a_product_needs_a_name():
    with pytest.raises(ValueError, match="name"):
        Product("  ", 100)


def test_a_price_is_not_negative():
    with pytest.raises(ValueError, match="negative"):
        Product("Tea", -1)


def test_products_are_found_by_slug():
    assert Catalogue([TEA, POT]).find("tea-pot") is POT


def test_an_unknown_slug_is_an_error():
    with pytest.raises(KeyError):
        Catalogue([]).find("coffee")


def test_search_wants_every_word():
    catalogue = Catalogue([POT, TEA])
    assert catalogue.search("tea") == [TEA, POT]
    assert catalogue.search("POT tea") == [POT]
