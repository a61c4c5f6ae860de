export { PriceTag } from "./PriceTag.js";
