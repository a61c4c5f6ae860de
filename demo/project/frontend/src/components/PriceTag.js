/** A price given in cents. */
export function PriceTag(cents) {
  return `<span class="price">€ ${(cents / 100).toFixed(2)}</span>`;
}
