const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** A text, safe to stand in markup. */
export function escape(text) {
  return String(text).replace(/[&<>"']/g, (character) => ENTITIES[character]);
}
