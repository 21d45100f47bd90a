/**
 * Classes of a legend: a colour of Okabe and Ito's palette (told apart with every common colour blindness) and,
 * when the colours are used up, another shape. What is no class of its own is grey.
 * Source: M. Okabe, K. Ito, "Color Universal Design", 2008.
 */

export const SHAPES = ['circle', 'square', 'triangle', 'diamond', 'wedge', 'cross', 'pentagon', 'star'] as const;
export type Shape = (typeof SHAPES)[number];

export interface Mark {
  readonly colour: string;
  readonly shape: Shape;
}

export const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#f0e442'] as const;
export const OTHER: Mark = { colour: '#8d949e', shape: 'circle' };
/** Corners of a regular polygon or star around (0, 0), the first on top; `inner` is the reach of a star's notches. */
function corners(n: number, turn = 0, inner?: number): readonly (readonly [number, number])[] {
  const steps = inner === undefined ? n : 2 * n;
  return Array.from({ length: steps }, (_, i) => {
    const angle = (i / steps) * 2 * Math.PI - Math.PI / 2 + turn;
    const reach = inner !== undefined && i % 2 === 1 ? inner : 1;
    return [Math.cos(angle) * reach, Math.sin(angle) * reach] as const;
  });
}

const ARM = 0.36;
/** Outlines of the shapes in a square from −1 to 1, y downwards; the circle has none. All look about equally large. */
export const OUTLINES: Readonly<Record<Exclude<Shape, 'circle'>, readonly (readonly [number, number])[]>> = {
  square: corners(4, Math.PI / 4).map(([x, y]) => [x * 1.13, y * 1.13] as const),
  triangle: corners(3).map(([x, y]) => [x * 1.18, y * 1.18 + 0.18] as const),
  diamond: corners(4).map(([x, y]) => [x * 1.15, y * 1.15] as const),
  wedge: corners(3, Math.PI).map(([x, y]) => [x * 1.18, y * 1.18 - 0.18] as const),
  cross: [
    [-ARM, -1],
    [ARM, -1],
    [ARM, -ARM],
    [1, -ARM],
    [1, ARM],
    [ARM, ARM],
    [ARM, 1],
    [-ARM, 1],
    [-ARM, ARM],
    [-1, ARM],
    [-1, -ARM],
    [-ARM, -ARM],
  ],
  pentagon: corners(5).map(([x, y]) => [x * 1.06, y * 1.06] as const),
  star: corners(5, 0, 0.5).map(([x, y]) => [x * 1.2, y * 1.2 + 0.06] as const),
};

/**
 * Shades of a score, the lowest first: the higher the score, the more it stands out from the map. Lighter and darker in
 * one direction, so that they can be told apart with every colour blindness and in grey (`palette.test.ts`).
 */
export const SHADES: Readonly<Record<'light' | 'dark', readonly string[]>> = {
  light: ['#b8800f', '#b9562a', '#a1305c', '#63207c', '#220a47'],
  dark: ['#7d5cc6', '#d866a4', '#f08a5d', '#f5bd4f', '#fdf7b0'],
};

/** The key of clusters of whose customers none was looked at. */
export const UNKNOWN = '?';

/** Marks of so many shades, from the lowest: the first and the last always stand as far apart as they can. */
export function shadeMarks(shades: number, dark: boolean): ReadonlyMap<string, Mark> {
  const ramp = SHADES[dark ? 'dark' : 'light'];
  const marks = new Map<string, Mark>();
  for (let i = 0; i < shades; i++) {
    const place = shades < 2 ? ramp.length - 1 : Math.round((i * (ramp.length - 1)) / (shades - 1));
    marks.set(String(i), { colour: ramp[place] ?? OTHER.colour, shape: 'circle' });
  }
  return marks.set(NONE, { colour: OTHER.colour, shape: 'cross' });
}

/** The key that a feature without owner or territory carries. */
export const NONE = '';

/** Stages keep their marks everywhere: colour and shape both say which. */
export const STAGE_MARKS: Readonly<Record<string, Mark>> = {
  prospect: { colour: '#56b4e9', shape: 'diamond' },
  lead: { colour: '#e69f00', shape: 'triangle' },
  active: { colour: '#009e73', shape: 'circle' },
  lapsed: { colour: '#d55e00', shape: 'square' },
};

/** The trailing number of a prefixed id, to put keys in the order in which they were made. */
function order(key: string): number {
  const digits = key.match(/(\d+)$/)?.[1];
  return digits === undefined ? Number.POSITIVE_INFINITY : Number(digits);
}

/**
 * A mark for every key. The same keys always get the same marks, whatever is in view: colours first, then the next
 * shape; beyond 56 keys the rest is grey.
 *
 * `there and back`: the colours of the second shape come in the opposite order, so that the first keys, the largest or
 * best segments, are the last to share theirs: among eleven, Champions have a colour of their own.
 */
export function marksFor(keys: Iterable<string>, way: 'round' | 'there and back' = 'round'): ReadonlyMap<string, Mark> {
  const sorted = [...new Set(keys)]
    .filter((key) => key !== NONE)
    .sort((a, b) => {
      const [first, second] = [order(a), order(b)];
      return first === second ? (a < b ? -1 : 1) : first < second ? -1 : 1;
    });
  const marks = new Map<string, Mark>();
  sorted.forEach((key, index) => {
    const [round, at] = [Math.floor(index / COLOURS.length), index % COLOURS.length];
    const colour = COLOURS[way === 'there and back' && round % 2 === 1 ? COLOURS.length - 1 - at : at];
    const shape = SHAPES[round];
    marks.set(key, colour && shape ? { colour, shape } : OTHER);
  });
  return marks;
}

function channel(value: number): number {
  const share = value / 255;
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
}

/** Relative luminance of `#rrggbb` (WCAG 2.2). */
export function luminance(colour: string): number {
  const value = Number.parseInt(colour.slice(1), 16);
  return 0.2126 * channel((value >> 16) & 255) + 0.7152 * channel((value >> 8) & 255) + 0.0722 * channel(value & 255);
}

/** Contrast of two colours, from 1 to 21 (WCAG 2.2). */
export function contrast(first: string, second: string): number {
  const [a, b] = [luminance(first), luminance(second)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
