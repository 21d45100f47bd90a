/** Points of a curve on an even grid of whole numbers, in the units of a drawing. Pure. */

export interface Frame {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** Where whole numbers from `first` to `last` and values from `low` to `high` stand in a frame. */
export function scales(frame: Frame, first: number, last: number, low: number, high: number) {
  const across = Math.max(last - first, 1);
  const up = high > low ? high - low : 1;
  return {
    x: (k: number) => frame.left + ((k - first) / across) * (frame.right - frame.left),
    y: (value: number) => frame.bottom - ((value - low) / up) * (frame.bottom - frame.top),
  };
}

/** The path of a line through points, broken where a value is missing. */
export function path(points: readonly (readonly [number, number | null])[]): string {
  let pen = false;
  let drawn = '';
  for (const [x, y] of points) {
    if (y === null || !Number.isFinite(y)) {
      pen = false;
      continue;
    }
    drawn += `${pen ? 'L' : 'M'}${Number(x.toFixed(2))} ${Number(y.toFixed(2))}`;
    pen = true;
  }
  return drawn;
}
