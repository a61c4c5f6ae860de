import assert from "node:assert/strict";
import { test } from "node:test";

import { PriceTag } from "../src/components/index.js";

test("a price tag shows euros and cents", () => {
  assert.equal(PriceTag(450), '<span class="price">€ 4.50</span>');
});
