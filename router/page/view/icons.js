// The page's icons, as functions: each call makes a new element.

import { icon } from "./dom.js";

const CIRCLE = "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z";
const BUBBLE =
  "M12 4c5 0 8.5 3.2 8.5 7.4S17 18.8 12 18.8c-.9 0-1.7-.1-2.5-.3L5.7 20.5l.7-3.5" +
  "c-1.8-1.3-2.9-3.3-2.9-5.6C3.5 7.2 7 4 12 4z";
const PERSON = "M9 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z";

export const back = () => icon("M15 5l-7 7 7 7");
export const send = () => icon("M4 12l16-8-6 16-3-6.5z", "M11 13.5L20 4");
export const plus = () => icon("M12 5v14", "M5 12h14");
export const close = () => icon("M6 6l12 12", "M18 6L6 18");
export const signOut = () => icon("M10 4H5v16h5", "M14 8l4 4-4 4", "M18 12H9");
export const down = () => icon("M6 10l6 6 6-6");
export const clock = () => icon(CIRCLE, "M12 8v4.5l3 1.5");
export const check = () => icon("M5 12.5l4.5 4.5L19 7.5");
export const checks = () => icon("M2 12.5L6.5 17 15 8", "M11.5 16.5l.8.6L22 7.5");
export const warning = () => icon(CIRCLE, "M12 8v5", "M12 16v.2");
export const bubble = () => icon(BUBBLE);
const DOT = "a.6.6 0 1 0 0 1.2.6.6 0 0 0 0-1.2z";
export const more = () => icon(`M12 5.4${DOT}`, `M12 11.4${DOT}`, `M12 17.4${DOT}`);
export const smile = () => icon(CIRCLE, "M8.5 14c.8 1.4 2 2.1 3.5 2.1s2.7-.7 3.5-2.1", "M9 9.5v.1", "M15 9.5v.1");
export const reply = () => icon("M9.5 6L4 11.5 9.5 17", "M4 11.5h9c4 0 6.5 2 7 6.5");
export const pencil = () => icon("M4 20l1-4.5L16.5 4 20 7.5 8.5 19z", "M14 6.5l3.5 3.5");
export const trash = () => icon("M4.5 7h15", "M9.5 7V4.5h5V7", "M6.5 7l1 13h9l1-13", "M10.5 11v5", "M13.5 11v5");
export const copy = () => icon("M9 9h11v11H9z", "M15 9V4H4v11h5");
export const people = () =>
  icon(
    PERSON,
    "M2.5 20c.3-3.8 2.8-6 6.5-6s6.2 2.2 6.5 6",
    "M16 4.8a3.5 3.5 0 0 1 0 6.4",
    "M18 14.5c2 .9 3.3 2.8 3.5 5.5",
  );
export const block = () => icon(CIRCLE, "M6 6l12 12");
export const eye = () =>
  icon(
    "M2.5 12C4.5 8 8 6 12 6s7.5 2 9.5 6c-2 4-5.5 6-9.5 6s-7.5-2-9.5-6z",
    "M12 9.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z",
  );
export const clip = () =>
  icon("M19.5 11.5l-7.5 7.5a5 5 0 0 1-7-7l8-8a3.3 3.3 0 0 1 4.7 4.7l-7.7 7.7a1.7 1.7 0 0 1-2.4-2.4l7-7");
export const shield = () => icon("M12 3.5l7 2.5v6c0 4.5-3 7.3-7 8.5-4-1.2-7-4-7-8.5V6z");
