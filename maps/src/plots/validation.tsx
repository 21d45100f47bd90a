/** How well a method did on customers that it had not seen: gain, calibration, lift, and what it goes by. */

import { count } from '../format';
import { path, scales } from './curve';
import { type Measure, reachOf, type Share, shares, signedPercent } from './gain';
import './plots.css';

const WIDTH = 340;
const percent = (share: number): string => `${Math.round(share * 100)} %`;

/** The gain of each measure as a point in its interval, beside zero. */
export function GainPlot({ measures, label }: { measures: readonly Measure[]; label: string }) {
  const rows = shares(measures);
  if (rows.length === 0) return null;
  const reach = reachOf(rows);
  const height = rows.length * 34 + 22;
  const { x } = scales({ left: 12, right: WIDTH - 12, top: 0, bottom: height }, -1, 1, 0, 1);
  const at = (share: number) => x(share / reach);
  return (
    <svg viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label={`${label} ${rows.map(told).join('; ')}`}>
      <line class="axis" x1={at(0)} x2={at(0)} y1="2" y2={height - 18} />
      {rows.map((row, index) => (
        <g key={row.name}>
          <text class="tick" x="0" y={index * 34 + 12}>{`${row.name}: ${signedPercent(row.gain)}`}</text>
          <line class="whisker" x1={at(row.low)} x2={at(row.high)} y1={index * 34 + 24} y2={index * 34 + 24} />
          <circle class="dot" cx={at(row.gain)} cy={index * 34 + 24} r="5" />
        </g>
      ))}
      {[-1, 0, 1].map((side) => (
        <text
          key={side}
          class="tick"
          x={at(side * reach)}
          y={height - 4}
          text-anchor={side < 0 ? 'start' : side > 0 ? 'end' : 'middle'}
        >
          {side === 0 ? 'no difference' : `${signedPercent(side * reach)} ${side > 0 ? 'better' : 'worse'}`}
        </text>
      ))}
    </svg>
  );
}

const told = ({ name, gain, low, high }: Share): string =>
  `${name} ${signedPercent(gain)}, from ${signedPercent(low)} to ${signedPercent(high)}`;

/** Customers of like predictions: what was predicted, what happened, and its interval. */
export interface CalibrationBin {
  readonly predicted: number;
  readonly observed: number;
  readonly low: number;
  readonly high: number;
  readonly customers: number;
}

const HEIGHT = 190;
const FRAME = { left: 40, right: WIDTH - 10, top: 8, bottom: HEIGHT - 34 };
const MARKS = [0, 0.5, 1];

/** What was predicted (across) beside what happened (up): on the line they are the same. */
export function CalibrationPlot({ bins }: { bins: readonly CalibrationBin[] }) {
  const { x, y } = scales(FRAME, 0, 1, 0, 1);
  const said = bins.map(({ predicted, observed }) => `of ${percent(predicted)} came ${percent(observed)}`).join('; ');
  return (
    <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`Predicted and observed: ${said}`}>
      {MARKS.map((mark) => (
        <g key={mark}>
          <line class={mark === 0 ? 'axis' : 'grid'} x1={FRAME.left} x2={FRAME.right} y1={y(mark)} y2={y(mark)} />
          <text class="tick" x={FRAME.left - 6} y={y(mark) + 4} text-anchor="end">
            {percent(mark)}
          </text>
          <text
            class="tick"
            x={x(mark)}
            y={FRAME.bottom + 14}
            text-anchor={mark === 0 ? 'start' : mark === 1 ? 'end' : 'middle'}
          >
            {percent(mark)}
          </text>
        </g>
      ))}
      <path
        class="curve without"
        d={path([
          [x(0), y(0)],
          [x(1), y(1)],
        ])}
      />
      {bins.map((bin) => (
        <g key={bin.predicted}>
          <line class="whisker" x1={x(bin.predicted)} x2={x(bin.predicted)} y1={y(bin.low)} y2={y(bin.high)} />
          <circle class="dot" cx={x(bin.predicted)} cy={y(bin.observed)} r="4">
            <title>{`Predicted ${percent(bin.predicted)}, left ${percent(bin.observed)} of ${count(bin.customers)}`}</title>
          </circle>
        </g>
      ))}
      <text class="tick" x={(FRAME.left + FRAME.right) / 2} y={HEIGHT - 3} text-anchor="middle">
        predicted
      </text>
    </svg>
  );
}

/** A tenth of the customers, the likeliest first: how many times the share of all left. */
export interface LiftPart {
  readonly part: number;
  readonly share: number;
  readonly lift: number;
}

/** The tenths of customers by their prediction, beside the share of all. */
export function LiftPlot({ parts }: { parts: readonly LiftPart[] }) {
  const most = Math.max(...parts.map(({ share }) => share), 0.01);
  const slot = (FRAME.right - FRAME.left) / parts.length;
  const { y } = scales(FRAME, 0, 1, 0, most);
  const first = parts[0];
  const over = first && first.lift > 0 ? first.share / first.lift : null;
  const said = parts.map(({ part, share }) => `${part}: ${percent(share)}`).join('; ');
  return (
    <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`Who left, by tenths, the likeliest first. ${said}`}>
      <line class="axis" x1={FRAME.left} x2={FRAME.right} y1={y(0)} y2={y(0)} />
      {[most / 2, most].map((mark) => (
        <text key={mark} class="tick" x={FRAME.left - 6} y={y(mark) + 4} text-anchor="end">
          {percent(mark)}
        </text>
      ))}
      {parts.map(({ part, share }, index) => (
        <g key={part}>
          <rect
            class="bar"
            x={FRAME.left + index * slot + slot * 0.14}
            y={y(share)}
            width={slot * 0.72}
            height={y(0) - y(share)}
          >
            <title>{`Tenth ${part}: ${percent(share)} left`}</title>
          </rect>
          <text class="tick" x={FRAME.left + (index + 0.5) * slot} y={FRAME.bottom + 14} text-anchor="middle">
            {part}
          </text>
        </g>
      ))}
      {over !== null && <line class="level" x1={FRAME.left} x2={FRAME.right} y1={y(over)} y2={y(over)} />}
      <text class="tick" x={(FRAME.left + FRAME.right) / 2} y={HEIGHT - 3} text-anchor="middle">
        tenths of the customers, the likeliest to leave first
      </text>
    </svg>
  );
}
