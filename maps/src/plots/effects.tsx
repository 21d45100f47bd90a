/** Effects as points in their intervals, beside zero; those that leave zero out are filled. */

import { reachOf } from './gain';
import './plots.css';

export interface EffectRow {
  readonly name: string;
  readonly value: number;
  readonly low: number;
  readonly high: number;
  /** The interval leaves 0 out. */
  readonly isShown: boolean;
}

const WIDTH = 340;
const ROW = 34;

interface Props {
  rows: readonly EffectRow[];
  /** Amounts for people, with their sign. */
  amount: (value: number) => string;
  label: string;
}

export function EffectPlot({ rows, amount, label }: Props) {
  if (rows.length === 0) return null;
  const reach = reachOf(rows.map(({ name, value, low, high }) => ({ name, gain: value, low, high })));
  const height = rows.length * ROW + 22;
  const at = (value: number) => WIDTH / 2 + (value / reach) * (WIDTH / 2 - 12);
  const told = ({ name, value, low, high, isShown }: EffectRow) =>
    `${name} ${isShown ? amount(value) : 'none is shown'}, from ${amount(low)} to ${amount(high)}`;
  return (
    <svg viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label={`${label}: ${rows.map(told).join('; ')}`}>
      <line class="axis" x1={at(0)} x2={at(0)} y1="2" y2={height - 18} />
      {rows.map((row, place) => {
        const y = place * ROW + 24;
        return (
          <g key={row.name}>
            <text class="tick over" x="0" y={place * ROW + 12}>
              {`${row.name}: ${row.isShown ? amount(row.value) : 'none is shown'}`}
            </text>
            <line class="whisker" x1={at(row.low)} x2={at(row.high)} y1={y} y2={y} />
            <circle class={row.isShown ? 'dot' : 'dot hollow'} cx={at(row.value)} cy={y} r="5" />
          </g>
        );
      })}
      {[-1, 0, 1].map((side) => (
        <text
          key={side}
          class="tick"
          x={at(side * reach)}
          y={height - 4}
          text-anchor={side < 0 ? 'start' : side > 0 ? 'end' : 'middle'}
        >
          {side === 0 ? 'no difference' : amount(side * reach)}
        </text>
      ))}
    </svg>
  );
}
