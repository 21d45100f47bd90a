/** Profiles as small multiples: for each feature a bar of each segment, above or below the average of all. */

import { type Mark, OUTLINES } from '../design/palette';
import { featureName, featureValue } from '../segments/features';
import { type FeatureBars, featureBars, type Mean, REACH, timesAverage } from './profile';
import './plots.css';

export interface ProfiledSegment {
  readonly label: number;
  readonly name: string;
  readonly mark: Mark;
}

interface Props {
  segments: readonly ProfiledSegment[];
  rows: readonly Mean[];
}

const WIDTH = 160;
const HEIGHT = 64;
/** Below the bars a row with the segments' marks: shapes tell what colours repeat. */
const MARKS = 14;
const SHORT = 8;

/** Who is highest and lowest in a feature. */
function sentence({ feature, average, bars }: FeatureBars, segments: readonly ProfiledSegment[]): string {
  const sorted = bars.toSorted((a, b) => b.mean - a.mean);
  const [most, least] = [sorted[0], sorted.at(-1)];
  const name = (label: number) => segments.find((row) => row.label === label)?.name ?? '';
  if (!most || !least) return '';
  return (
    `${featureName(feature)}: ${featureValue(feature, average)} on average; most in ${name(most.label)} with` +
    ` ${featureValue(feature, most.mean)}, least in ${name(least.label)} with ${featureValue(feature, least.mean)}.`
  );
}

function SmallMark({ mark, x, y, r }: { mark: Mark; x: number; y: number; r: number }) {
  if (mark.shape === 'circle') return <circle class="segment-bar" cx={x} cy={y} r={r * 0.92} fill={mark.colour} />;
  const points = OUTLINES[mark.shape].map(([dx, dy]) => `${x + dx * r},${y + dy * r}`).join(' ');
  return <polygon class="segment-bar" points={points} fill={mark.colour} />;
}

function Small({ one, segments }: { one: FeatureBars; segments: readonly ProfiledSegment[] }) {
  const slot = WIDTH / segments.length;
  const middle = HEIGHT / 2;
  const unit = (middle - 4) / REACH;
  return (
    <figure class="multiple">
      <figcaption class="small">{featureName(one.feature)}</figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT + MARKS}`} role="img" aria-label={sentence(one, segments)}>
        <line class="axis" x1="0" x2={WIDTH} y1={middle} y2={middle} />
        {segments.map(({ label, mark }, index) => (
          <SmallMark
            key={label}
            mark={mark}
            x={(index + 0.5) * slot}
            y={HEIGHT + MARKS / 2}
            r={Math.min(5, slot / 2.6)}
          />
        ))}
        {segments.map((segment, index) => {
          const bar = one.bars.find((row) => row.label === segment.label);
          if (!bar) return null;
          const top = bar.height > 0 ? middle - bar.height * unit : middle;
          return (
            <rect
              key={segment.label}
              class="segment-bar"
              x={index * slot + slot * 0.14}
              y={top}
              width={slot * 0.72}
              height={Math.max(Math.abs(bar.height) * unit, 1)}
              fill={segment.mark.colour}
            >
              <title>
                {`${segment.name}: ${featureValue(one.feature, bar.mean)}, ${timesAverage(bar.mean, one.average)} the average`}
              </title>
            </rect>
          );
        })}
      </svg>
      <p class="small quiet">average {featureValue(one.feature, one.average)}</p>
    </figure>
  );
}

export function ProfilePlots({ segments, rows }: Props) {
  const bars = featureBars(
    rows,
    segments.map(({ label }) => label),
  );
  const first = bars.slice(0, SHORT);
  return (
    <div class="plot">
      <p class="small quiet">
        A bar for each segment, in the order and with the marks of the list above. The line is the average of all; a
        full bar is four times or a quarter of it, or more.
      </p>
      <div class="multiples">
        {first.map((one) => (
          <Small key={one.feature} one={one} segments={segments} />
        ))}
      </div>
      {bars.length > first.length && (
        <details>
          <summary>{bars.length - first.length} more, in which the segments differ less</summary>
          <div class="multiples">
            {bars.slice(SHORT).map((one) => (
              <Small key={one.feature} one={one} segments={segments} />
            ))}
          </div>
        </details>
      )}
    </div>
  );
}
