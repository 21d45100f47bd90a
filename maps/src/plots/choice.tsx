/** How the number of groups was chosen: how well groups come back in other samples, beside data without groups. */

import type { Choice, TriedNumber } from '../segments/results';
import { path, scales } from './curve';
import './plots.css';

const WIDTH = 340;
const HEIGHT = 150;
const FRAME = { left: 34, right: WIDTH - 8, top: 10, bottom: HEIGHT - 24 };
const MARKS = [0, 0.5, 1];

interface CurvesProps {
  table: readonly TriedNumber[];
  k: number;
  of: 'stability' | 'silhouette';
  label: string;
  most: number;
}

function Curves({ table, k, of, label, most }: CurvesProps) {
  const first = table[0]?.k ?? 2;
  const last = table.at(-1)?.k ?? first;
  const { x, y } = scales(FRAME, first, last, 0, most);
  const line = (name: keyof TriedNumber) =>
    path(table.map((row) => [x(row.k), row[name] === null ? null : y(Math.max(0, Number(row[name])))]));
  const chosen = table.find((row) => row.k === k);
  return (
    <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label}>
      {MARKS.map((mark) => (
        <g key={mark}>
          <line
            class={mark === 0 ? 'axis' : 'grid'}
            x1={FRAME.left}
            x2={FRAME.right}
            y1={y(mark * most)}
            y2={y(mark * most)}
          />
          <text class="tick" x={FRAME.left - 6} y={y(mark * most) + 4} text-anchor="end">
            {Number((mark * most).toFixed(2))}
          </text>
        </g>
      ))}
      {chosen && <line class="chosen" x1={x(k)} x2={x(k)} y1={FRAME.top} y2={FRAME.bottom} />}
      <path class="curve without" d={line(`${of}_null`)} />
      <path class="curve" d={line(of)} />
      {table.map((row) =>
        row[of] === null ? null : (
          <circle
            key={row.k}
            class={row.k === k ? 'dot chosen-dot' : 'dot'}
            cx={x(row.k)}
            cy={y(Math.max(0, row[of] ?? 0))}
            r={row.k === k ? 5 : 3}
          />
        ),
      )}
      {table.map((row) => (
        <text key={row.k} class="tick" x={x(row.k)} y={HEIGHT - 7} text-anchor="middle">
          {row.k}
        </text>
      ))}
    </svg>
  );
}

const two = (value: number | null): string => (value === null ? '' : value.toFixed(2));

export function ChoicePlot({ choice }: { choice: Choice }) {
  const { table, k, reason } = choice;
  const highest = Math.max(0.1, ...table.flatMap((row) => [row.silhouette ?? 0, row.silhouette_null ?? 0]));
  const most = Math.ceil(highest * 5) / 5;
  return (
    <figure class="plot">
      <figcaption class="small">{reason}</figcaption>
      <p class="small">
        <strong>Do the groups come back?</strong> Solid: how alike the groups of two samples of your customers are (1:
        the same). Dashed: the same in data without groups. The solid line has to be clearly above the dashed one.
      </p>
      <Curves
        table={table}
        k={k}
        of="stability"
        label={`How well groups come back in other samples, by their number, with ${k} chosen. ${reason}`}
        most={1}
      />
      <p class="small">
        <strong>How far apart are they?</strong> Solid: how much nearer customers are to their own group than to the
        next (the silhouette). Dashed: in data without groups.
      </p>
      <Curves table={table} k={k} of="silhouette" label="How far apart the groups are, by their number" most={most} />
      <details>
        <summary>Numbers as a table</summary>
        <table>
          <thead>
            <tr>
              <th scope="col">Groups</th>
              <th scope="col">Come back</th>
              <th scope="col">without groups</th>
              <th scope="col">Apart</th>
              <th scope="col">without groups</th>
            </tr>
          </thead>
          <tbody>
            {table.map((row) => (
              <tr key={row.k}>
                <th scope="row">{row.k === k ? `${row.k}, chosen` : row.k}</th>
                <td>{two(row.stability)}</td>
                <td>{two(row.stability_null)}</td>
                <td>{two(row.silhouette)}</td>
                <td>{two(row.silhouette_null)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </figure>
  );
}
