"""What the shop sells."""

from dataclasses import dataclass

from inflection import parameterize


@dataclass(frozen=True)
class Product:
    """Something for sale. `price` is in cents."""

    name: str
    price: int

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("a product needs a name")
        if self.price < 0:
            raise ValueError("a price is not negative")

    @property
    def slug(self) -> str:
        """The name as it stands in an address."""
        return parameterize(self.name)


class Catalogue:
    """Products by their slugs."""

    def __init__(self, products: list[Product]) -> None:
        self._products = {product.slug: product for product in products}

    def find(self, slug: str) -> Product:
        """Return a product. Raises KeyError where there is none."""
        return self._products[slug]

    def search(self, words: str) -> list[Product]:
        """Return the products whose names hold all the words, in any case, by name."""
        wanted = words.casefold().split()
        found = [p for p in self._products.values() if all(word in p.name.casefold() for word in wanted)]
        return sorted(found, key=lambda product: product.name)
