import assert from "node:assert/strict";
import { test } from "node:test";

import { escape } from "../src/html.js";

test("markup is escaped", () => {
  assert.equal(escape(`<b class="x">it's & more</b>`), "&lt;b class=&quot;x&quot;&gt;it&#39;s &amp; more&lt;/b&gt;");
});

test("what is no text becomes one", () => {
  assert.equal(escape(7), "7");
});
