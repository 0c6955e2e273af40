// What the page shows now; the modules that draw it share this.

/**
 * model: what the server says of itself. names: of its factors. attributes: that items share. steering: what `wireSteering` returns.
 * history: items, oldest first. explained: the item that "Why" is about, or null.
 */
export const state = { model: null, names: [], attributes: [], steering: null, history: [], explained: null };
