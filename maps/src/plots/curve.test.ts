import { expect, it } from 'vitest';
import { path, scales } from './curve';

it('puts numbers into a frame', () => {
  const { x, y } = scales({ left: 10, right: 110, top: 0, bottom: 50 }, 2, 12, 0, 1);
  expect([x(2), x(7), x(12)]).toEqual([10, 60, 110]);
  expect([y(0), y(0.5), y(1)]).toEqual([50, 25, 0]);
  const flat = scales({ left: 0, right: 10, top: 0, bottom: 10 }, 3, 3, 1, 1);
  expect([flat.x(3), flat.y(1)].every(Number.isFinite)).toBe(true);
});

it('breaks a line where a value is missing', () => {
  expect(
    path([
      [0, 1],
      [1, 2.345678],
      [2, null],
      [3, 4],
      [4, Number.NaN],
    ]),
  ).toBe('M0 1L1 2.35M3 4');
  expect(path([])).toBe('');
});
