/** Colours, legend, filters and what the map shows. */

import { Icon } from '../design/icons';
import { COLOURS } from '../design/palette';
import { placeIconText } from '../design/places';
import { count, counted, words } from '../format';
import { conditionWords } from '../segments/conditions';
import { scoreChoices, scoreTitle } from '../segments/shades';
import { active, choicesOf, nameOf, scored } from '../state/legend';
import { COLOUR_KEYS, type ColourKey, FILTER_FIELDS, isFiltered, KINDS, LAYERS, STAGES } from '../state/model';
import { company, loadCompany } from '../state/session';
import {
  clearFilters,
  colour,
  colourBy,
  colourByScore,
  filters,
  showWhere,
  state,
  toggleFilter,
  toggleLayer,
} from '../state/store';
import { Legend } from './legend';
import { Empty, Failed } from './states';

function Chosen() {
  const now = filters.value;
  if (!isFiltered(now)) return null;
  return (
    <section class="block" aria-labelledby="chosen-title">
      <div class="block-head">
        <h2 id="chosen-title">Only these customers</h2>
        <button type="button" class="button plain" onClick={clearFilters}>
          Clear all
        </button>
      </div>
      <ul class="choices">
        {FILTER_FIELDS.flatMap((field) =>
          now[field].map((value) => (
            <li key={`${field}:${value}`}>
              <button
                type="button"
                class="choice"
                aria-label={`Remove the filter ${words(field)} ${nameOf(field, value)}`}
                onClick={() => toggleFilter(field, value)}
              >
                {nameOf(field, value)}
                <Icon name="close" />
              </button>
            </li>
          )),
        )}
        {now.where !== null && (
          <li>
            <button
              type="button"
              class="choice"
              aria-label={`Remove the filter ${conditionWords(now.where, company.value.segmentations)}`}
              onClick={() => showWhere(null)}
            >
              {conditionWords(now.where, company.value.segmentations)}
              <Icon name="close" />
            </button>
          </li>
        )}
      </ul>
    </section>
  );
}

/** Which score the map is coloured by. */
function ScoreSelect() {
  const choices = scoreChoices(company.value.segmentations);
  if (choices.length === 0) {
    return (
      <p class="small quiet">
        No published run has scores to colour by. Run and publish a segmentation under Segments.
      </p>
    );
  }
  const divided = [...new Set(choices.map(({ segmentation }) => segmentation))];
  return (
    <div class="field">
      <label for="colour-score">Score</label>
      <select
        id="colour-score"
        class="input"
        value={scored.value ? (state.value.score ?? '') : ''}
        onChange={(event) => event.currentTarget.value && colourByScore(event.currentTarget.value)}
      >
        {!scored.value && <option value="">Choose a score</option>}
        {divided.map((segmentation) => (
          <optgroup key={segmentation.id} label={segmentation.name}>
            {choices
              .filter((choice) => choice.segmentation === segmentation)
              .map((choice) => (
                <option key={choice.id} value={choice.id}>
                  {scoreTitle(choice)}
                </option>
              ))}
          </optgroup>
        ))}
      </select>
    </div>
  );
}

/** Colours by a dimension; by the score that was chosen last, else by the first there is. */
function paintBy(key: ColourKey): void {
  const first = scoreChoices(company.value.segmentations)[0]?.id;
  const score = state.value.score ?? first;
  if (key === 'score' && score) colourByScore(score);
  else colourBy(key);
}

export function KeyPanel() {
  const { places, problem, status, bounds } = company.value;
  const now = filters.value;
  return (
    <div class="blocks">
      {status === 'failed' && problem && <Failed problem={problem} again={() => void loadCompany()} />}
      {status === 'ready' && bounds === null && (
        <Empty title="No customers on the map yet">
          <p>Import a file of customers with the command line (geocrm import customers FILE) or the API.</p>
        </Empty>
      )}
      <section class="block" aria-labelledby="colour-title">
        <h2 id="colour-title">Colour by</h2>
        <div class="choices">
          {COLOUR_KEYS.filter(
            (key) =>
              colour.value === key ||
              (key === 'segment'
                ? active.value
                : key !== 'score' || scoreChoices(company.value.segmentations).length > 0),
          ).map((key) => (
            <button
              key={key}
              type="button"
              class="choice"
              aria-pressed={colour.value === key}
              onClick={() => paintBy(key)}
            >
              {words(key)}
            </button>
          ))}
        </div>
        {colour.value === 'score' && company.value.status === 'ready' && <ScoreSelect />}
        {colour.value === 'segment' && (
          <p class="small quiet">
            {active.value
              ? `By “${active.value.name}”. A ring has the colour of the segment that most of its customers are in; those in no segment have no say.`
              : 'No segmentation is on the map: put one there under Segments.'}
            {(active.value?.segments.length ?? 0) > COLOURS.length &&
              ' Where segments share a colour, come nearer: their shapes differ.'}
          </p>
        )}
        <Legend />
      </section>
      <section class="block" aria-labelledby="filter-title">
        <h2 id="filter-title">Filter</h2>
        {colour.value !== 'stage' && (
          <div class="choices">
            {STAGES.map((stage) => (
              <button
                key={stage}
                type="button"
                class="choice"
                aria-pressed={now.stage.includes(stage)}
                onClick={() => toggleFilter('stage', stage)}
              >
                {words(stage)}
              </button>
            ))}
          </div>
        )}
        <div class="choices">
          {KINDS.map((kind) => (
            <button
              key={kind}
              type="button"
              class="choice"
              aria-pressed={now.kind.includes(kind)}
              onClick={() => toggleFilter('kind', kind)}
            >
              {kind === 'person' ? 'People' : 'Organisations'}
            </button>
          ))}
        </div>
        {colour.value !== 'owner' && <FilterSelect field="owner" label="Owner" />}
        {colour.value !== 'territory' && <FilterSelect field="territory" label="Territory" />}
        {colour.value !== 'segment' && active.value && <FilterSelect field="segment" label="Segment" />}
      </section>
      {/* Below what is pressed to filter, so that nothing moves away under the finger. */}
      <Chosen />
      <section class="block" aria-labelledby="layers-title">
        <h2 id="layers-title">On the map</h2>
        <div class="choices">
          {LAYERS.map((layer) => (
            <button
              key={layer}
              type="button"
              class="choice"
              aria-pressed={!state.value.hidden.includes(layer)}
              onClick={() => toggleLayer(layer)}
            >
              {words(layer)}
            </button>
          ))}
        </div>
        {places.length > 0 && (
          <p class="small quiet">
            {placeIconText(places.map((place) => place.kind))}; {counted(places.length, 'place')} in all.
          </p>
        )}
      </section>
    </div>
  );
}

interface SelectProps {
  field: 'owner' | 'territory' | 'segment';
  label: string;
}

/** Those among whom the person's customers are, with how many sites each has in all. */
function FilterSelect({ field, label }: SelectProps) {
  const chosen = filters.value[field];
  const rows = choicesOf(field);
  const open = rows.filter((row) => !chosen.includes(row.key));
  if (rows.length === 0) return null;
  return (
    <div class="field">
      <label for={`filter-${field}`}>{label}</label>
      <select
        id={`filter-${field}`}
        class="input"
        value=""
        onChange={(event) => {
          if (event.currentTarget.value) toggleFilter(field, event.currentTarget.value);
        }}
      >
        <option value="">{chosen.length > 0 ? `Add to ${counted(chosen.length, 'choice')}…` : 'Any'}</option>
        {open.map((row) => (
          <option key={row.key} value={row.key}>
            {row.name}
            {row.count === null ? '' : ` (${count(row.count)})`}
          </option>
        ))}
      </select>
    </div>
  );
}
