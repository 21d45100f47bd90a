/** The icons of the map, drawn on a canvas when they are first needed: marks of customers, shops, competitors. */

import { OUTLINES, SHAPES, type Shape } from '../design/palette';
import { INKS, type Theme } from './style';

const SCALE = 2;
/** Side of the square that holds an icon, in CSS pixels. */
const SIDE = 24;

export interface Icon {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray;
  readonly pixelRatio: number;
}

function outline(context: CanvasRenderingContext2D, shape: Shape, middle: number, reach: number): void {
  context.beginPath();
  if (shape === 'circle') context.arc(middle, middle, reach * 0.92, 0, Math.PI * 2);
  else for (const [x, y] of OUTLINES[shape]) context.lineTo(middle + x * reach, middle + y * reach);
  context.closePath();
}

function pin(context: CanvasRenderingContext2D, own: boolean, ink: string, surface: string): void {
  const side = SIDE * SCALE;
  context.beginPath();
  context.roundRect(side * 0.08, side * 0.08, side * 0.84, side * 0.84, side * 0.16);
  context.fillStyle = own ? ink : surface;
  context.fill();
  context.lineWidth = SCALE * 2;
  context.strokeStyle = own ? surface : ink;
  context.stroke();
  // A shop front: the awning and the door.
  context.fillStyle = own ? surface : ink;
  context.fillRect(side * 0.24, side * 0.26, side * 0.52, side * 0.14);
  context.fillRect(side * 0.28, side * 0.46, side * 0.16, side * 0.28);
  context.fillRect(side * 0.52, side * 0.46, side * 0.2, side * 0.16);
}

/** The icon of a name that `style.ts` gave; null for a name of somebody else's. */
export function drawIcon(name: string): Icon | null {
  const [family, what, rest, last] = name.split(':');
  const side = SIDE * SCALE;
  const canvas = document.createElement('canvas');
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext('2d');
  if (!context) return null;
  if (family === 'mark') {
    const inks = INKS[(last ?? 'light') as Theme] ?? INKS.light;
    const shape = SHAPES.find((s) => s === what) ?? 'circle';
    outline(context, shape, side / 2, side * 0.34);
    context.lineJoin = 'round';
    context.lineWidth = SCALE * 5;
    context.strokeStyle = inks.halo;
    context.stroke();
    context.lineWidth = SCALE * 2.4;
    context.strokeStyle = inks.ink;
    context.stroke();
    context.fillStyle = rest ?? '#888888';
    context.fill();
  } else if (family === 'place') {
    const inks = INKS[(rest ?? 'light') as Theme] ?? INKS.light;
    pin(context, what !== 'competitor', inks.ink, inks.surface);
  } else return null;
  const { data } = context.getImageData(0, 0, side, side);
  return { width: side, height: side, data, pixelRatio: SCALE };
}
