/** Sales over time as bars by month, with axes, a sentence for those who cannot see it, and the numbers as a table. */

import { counted, money } from '../format';
import { type Month, mainCurrency, sum, ticks, unbroken } from './months';
import './plots.css';

const WIDTH = 340;
const HEIGHT = 150;
const LEFT = 48;
const BOTTOM = 20;
const TOP = 8;

const monthName = new Intl.DateTimeFormat('en', { month: 'short', year: 'numeric', timeZone: 'UTC' });
const named = (month: string) => monthName.format(new Date(`${month}-15T00:00:00Z`));

/** Months that get a name under the axis: the ends and the Januaries between, none too near another. */
function axisNames(rows: readonly Month[]): readonly number[] {
  const last = rows.length - 1;
  const room = Math.max(1, Math.ceil(rows.length / 5));
  const chosen = [0];
  rows.forEach((row, index) => {
    const clear = index - (chosen.at(-1) ?? 0) >= room && last - index >= room;
    if (clear && row.month.endsWith('-01')) chosen.push(index);
  });
  if (last > 0) chosen.push(last);
  return chosen;
}

function axisName(month: string): string {
  return month.endsWith('-01') ? month.slice(0, 4) : named(month);
}

export function SalesPlot({ months }: { months: readonly Month[] }) {
  const currency = mainCurrency(months);
  if (currency === null) return null;
  const series = unbroken(months, currency).map((m) => ({ ...m, value: Number(m.amount) }));
  const others = months.reduce((n, m) => n + (m.currency === currency ? 0 : m.count), 0);
  const marks = ticks(Math.min(...series.map((m) => m.value)), Math.max(...series.map((m) => m.value)));
  const [low, high] = [marks[0] ?? 0, marks.at(-1) ?? 1];
  const y = (value: number) => TOP + ((high - value) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const slot = (WIDTH - LEFT) / Math.max(series.length, 6);
  const best = series.reduce((a, b) => (b.value > a.value ? b : a));
  const sales = series.reduce((n, m) => n + m.count, 0);
  const total = money(sum(series.map((m) => m.amount)), currency);
  const sentence =
    `${counted(sales, 'sale')} since ${named(series[0]?.month ?? '')}, ${total} in all;` +
    ` the best month was ${named(best.month)} with ${money(best.value, currency)}.`;
  return (
    <figure class="plot">
      <figcaption>{sentence}</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`Sales by month. ${sentence}`}>
        {marks.map((value) => (
          <g key={value}>
            <line class={value === 0 ? 'axis' : 'grid'} x1={LEFT} x2={WIDTH} y1={y(value)} y2={y(value)} />
            <text class="tick" x={LEFT - 6} y={y(value) + 4} text-anchor="end">
              {money(value, currency, true)}
            </text>
          </g>
        ))}
        {series.map((month, index) => {
          const [from, to] = [y(Math.max(month.value, 0)), y(Math.min(month.value, 0))];
          return (
            <rect
              key={month.month}
              class={month.value < 0 ? 'bar negative' : 'bar'}
              x={LEFT + index * slot + slot * 0.12}
              y={from}
              width={slot * 0.76}
              height={Math.max(to - from, month.value === 0 ? 0 : 1)}
            >
              <title>{`${named(month.month)}: ${money(month.amount, currency)}`}</title>
            </rect>
          );
        })}
        {axisNames(series).map((index) => {
          const month = series[index]?.month ?? '';
          const anchor = index === 0 ? 'start' : index === series.length - 1 && series.length > 5 ? 'end' : 'middle';
          const shift = anchor === 'start' ? 0 : anchor === 'end' ? slot : slot / 2;
          return (
            <text key={month} class="tick" x={LEFT + index * slot + shift} y={HEIGHT - 5} text-anchor={anchor}>
              {axisName(month)}
            </text>
          );
        })}
      </svg>
      <details>
        <summary>Numbers as a table</summary>
        <div class="plot-table">
          <table>
            <thead>
              <tr>
                <th scope="col">Month</th>
                <th scope="col">Sales</th>
                <th scope="col">Amount</th>
              </tr>
            </thead>
            <tbody>
              {[...series].reverse().map((month) => (
                <tr key={month.month}>
                  <th scope="row">{named(month.month)}</th>
                  <td>{month.count}</td>
                  <td>{money(month.amount, currency)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
      {others > 0 && <p class="small quiet">{counted(others, 'sale')} in other currencies not drawn.</p>}
    </figure>
  );
}
