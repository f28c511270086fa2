// The page's icons, as functions: each call makes a new element.

import { icon } from "./dom.js";

export const back = () => icon("M15 5l-7 7 7 7");
export const send = () => icon("M4 12l16-8-6 16-3-6.5z", "M11 13.5L20 4");
export const plus = () => icon("M12 5v14", "M5 12h14");
export const signOut = () => icon("M10 4H5v16h5", "M14 8l4 4-4 4", "M18 12H9");
export const down = () => icon("M6 10l6 6 6-6");
export const clock = () => icon("M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z", "M12 8v4.5l3 1.5");
export const check = () => icon("M5 12.5l4.5 4.5L19 7.5");
export const warning = () => icon("M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z", "M12 8v5", "M12 16v.2");
const BUBBLE =
  "M12 4c5 0 8.5 3.2 8.5 7.4S17 18.8 12 18.8c-.9 0-1.7-.1-2.5-.3L5.7 20.5l.7-3.5" +
  "c-1.8-1.3-2.9-3.3-2.9-5.6C3.5 7.2 7 4 12 4z";
export const bubble = () => icon(BUBBLE);
