"""What the shop sells."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sortedcontainers import SortedKeyList


@dataclass(frozen=True)
class Product:
    """Something for sale. `price` is in cents."""

    name: str
    price: int

    def __post_init__(self) -> None:
        if not self.slug:
            raise ValueError("a product needs a name")
        if self.price < 0:
            raise ValueError("a price is not negative")

    @property
    def slug(self) -> str:
        """The name as it stands in an address."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.casefold()).strip("-")


class Catalogue:
    """Products, found by slug, by words or by price."""

    def __init__(self, products: Iterable[Product]) -> None:
        self._by_price = SortedKeyList(products, key=lambda product: product.price)
        self._by_slug = {product.slug: product for product in self._by_price}

    def find(self, slug: str) -> Product:
        """Return a product. Raises KeyError where there is none."""
        return self._by_slug[slug]

    def search(self, words: str) -> list[Product]:
        """Return the products whose names hold all the words, in any case, the cheapest first."""
        wanted = words.casefold().split()
        return [product for product in self._by_price if all(word in product.name.casefold() for word in wanted)]

    def priced(self, lowest: int, highest: int) -> list[Product]:
        """Return the products from one price to another, both included, the cheapest first."""
        return list(self._by_price.irange_key(lowest, highest))
