/** Customers by a score: a range of it as a filter of the map and the lists. */

import { useState } from 'preact/hooks';
import type { Segmentation } from '../api/shapes';
import { colour, colourByScore, filters, showWhere, state } from '../state/store';
import { Audience } from './audience';
import { scoreBetween } from './conditions';
import { featureName } from './features';

const numberOf = (text: string): number | null => (text.trim() === '' ? null : Number(text));

export function ScoreFilter({ segmentation }: { segmentation: Segmentation }) {
  const { key, score_names } = segmentation;
  const [score, setScore] = useState(score_names[0] ?? '');
  const [low, setLow] = useState('');
  const [high, setHigh] = useState('');
  const [least, most] = [numberOf(low), numberOf(high)];
  const wrong = [least, most].some((value) => value !== null && !Number.isFinite(value));
  const backwards = least !== null && most !== null && most < least;
  const condition = wrong || backwards ? null : scoreBetween(key, score, least, most);
  const shown = condition !== null && filters.value.where === JSON.stringify(condition);
  const painted = colour.value === 'score' && state.value.score === `${key}.${score}`;
  return (
    <section class="block" aria-labelledby="score-title">
      <h3 id="score-title">Colour and filter by a score</h3>
      <div class="field">
        <label for="score">Score</label>
        <select id="score" class="input" value={score} onChange={(event) => setScore(event.currentTarget.value)}>
          {score_names.map((name) => (
            <option key={name} value={name}>
              {featureName(name)}
            </option>
          ))}
        </select>
      </div>
      {segmentation.shades[score] && (
        <button type="button" class="button" disabled={painted} onClick={() => colourByScore(`${key}.${score}`)}>
          {painted ? 'The map is coloured by it' : 'Colour the map by it'}
        </button>
      )}
      <div class="pair">
        <div class="field">
          <label for="score-low">From</label>
          <input
            id="score-low"
            class="input"
            inputMode="decimal"
            value={low}
            onInput={(event) => setLow(event.currentTarget.value)}
          />
        </div>
        <div class="field">
          <label for="score-high">To</label>
          <input
            id="score-high"
            class="input"
            inputMode="decimal"
            value={high}
            onInput={(event) => setHigh(event.currentTarget.value)}
          />
        </div>
      </div>
      <p class="small quiet" role="status">
        {wrong ? 'Numbers are needed.' : backwards ? 'The upper end is below the lower one.' : ''}
      </p>
      <button
        type="button"
        class="button"
        disabled={condition === null}
        onClick={() => showWhere(shown ? null : condition)}
      >
        {shown ? 'Show all on the map' : 'Show this range on the map'}
      </button>
      {condition && <Audience condition={condition} name={featureName(score)} />}
    </section>
  );
}
