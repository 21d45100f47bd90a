/** The one dial between behaviour and place, the number of groups, and what they would look like on a sample. */

import { useEffect } from 'preact/hooks';
import { previewGroups } from '../api/routes';
import type { GroupsPreview } from '../api/shapes';
import { Failed, Loading } from '../components/states';
import { MarkIcon } from '../design/icons';
import { marksFor, OTHER } from '../design/palette';
import { counted } from '../format';
import { may, previewKey, sample, sampleOf, usePreview } from './state';
import { dialWords } from './words';

export interface GroupsParameters {
  readonly dial: number;
  /** Left out: chosen by the data. */
  readonly k?: number;
}
export const START_GROUPS: GroupsParameters = { dial: 0.3 };

const MOST = 12;
const NUMBERS = Array.from({ length: MOST - 1 }, (_, index) => index + 2);

interface Props {
  parameters: GroupsParameters;
  change: (parameters: GroupsParameters) => void;
}

export function GroupsForm({ parameters, change }: Props) {
  const { dial, k } = parameters;
  const said = dialWords(dial);
  return (
    <>
      <div class="field">
        <label for="dial">What counts for being alike</label>
        <input
          id="dial"
          class="dial"
          type="range"
          min="0"
          max="1"
          step="0.1"
          value={dial}
          aria-valuetext={said}
          onInput={(event) => change({ ...parameters, dial: Number(event.currentTarget.value) })}
        />
        <div class="dial-ends small quiet" aria-hidden="true">
          <span>Behaviour</span>
          <strong>{said}</strong>
          <span>Place</span>
        </div>
        <p class="small quiet">
          Behaviour: how often, how lately, how much, by which channel and of what people buy. Place: where they live
          and how far the next shop is.
        </p>
      </div>
      <div class="field">
        <label for="groups-number">Number of groups</label>
        <select
          id="groups-number"
          class="input"
          value={k === undefined ? '' : String(k)}
          onChange={(event) => {
            const number = Number(event.currentTarget.value);
            change(number > 0 ? { dial, k: number } : { dial });
          }}
        >
          <option value="">As many as the data bear out</option>
          {NUMBERS.map((number) => (
            <option key={number} value={String(number)}>
              {number}
            </option>
          ))}
        </select>
        {k === undefined && (
          <p class="small quiet">
            The run looks for groups that come back in other samples of your customers. Where there are none, it says so
            and makes one group.
          </p>
        )}
      </div>
      {may('segmentations:write') && <Preview parameters={parameters} />}
    </>
  );
}

function Preview({ parameters }: { parameters: GroupsParameters }) {
  const { data, problem, asking } = usePreview<GroupsPreview>(JSON.stringify(parameters), (signal) =>
    previewGroups(parameters, signal),
  );
  useEffect(() => {
    sample.value = data && sampleOf(data);
    return () => {
      sample.value = null;
    };
  }, [data]);
  const marks = marksFor(data?.groups.map(({ group }) => previewKey(group)) ?? []);
  return (
    <section class="block preview" aria-labelledby="preview-title" aria-busy={asking}>
      <h3 id="preview-title">Preview</h3>
      {problem &&
        (problem.status === 409 ? (
          <div class="notice">
            <p>
              There is no preview before the first run, which gathers the statistics of your sales. Create and run this
              one, or another, then there is.
            </p>
          </div>
        ) : (
          <Failed problem={problem} />
        ))}
      {!data && asking && <Loading what="the preview" lines={5} />}
      {data && (
        <>
          <p class="small quiet" role="status">
            {asking
              ? 'Looking anew…'
              : `${counted(data.groups.length, 'group')} of a sample of ${counted(data.sample, 'customer')}, on the map as dots.${
                  parameters.k === undefined
                    ? ' The preview always shows five; the run finds out how many there are, if any.'
                    : ''
                }`}
          </p>
          <ul class="found" aria-label="Groups of the preview">
            {data.groups.map((row) => (
              <li key={row.group} class="found-row">
                <MarkIcon mark={marks.get(previewKey(row.group)) ?? OTHER} />
                <div>
                  <strong>{row.name}</strong> <span class="quiet">{Math.round(row.share * 100)} %</span>
                  <p class="small quiet">{row.sentence}</p>
                </div>
              </li>
            ))}
          </ul>
          <details class="fold">
            <summary>How good are these descriptions?</summary>
            <p class="small">{data.verdict}</p>
          </details>
        </>
      )}
    </section>
  );
}
