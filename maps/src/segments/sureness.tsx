/** How the number of groups was chosen, how sure a method is, whether place helps, and what to know of the figures. */

import { counted, money, words } from '../format';
import { ChoicePlot } from '../plots/choice';
import { CalibrationPlot, GainPlot, LiftPlot } from '../plots/validation';
import { featureName, hasName, noteWords } from './features';
import type { Evaluation, FoundSegment, Results } from './results';

const FEW_DRIVERS = 8;

/** How well probabilities held on customers that the method had not seen. */
function Evaluated({ told }: { told: Evaluation }) {
  return (
    <section class="block" aria-labelledby="evaluation-title">
      <h3 id="evaluation-title">Can it be relied on?</h3>
      {told.gain && <p class="small">{told.gain.sentence}</p>}
      {told.calibration.length > 0 && (
        <figure class="plot">
          <figcaption class="small">
            <strong>Is what it says what happens?</strong> Each point is a group of customers with like predictions; on
            the dashed line as many left as predicted. {told.error?.sentence}
          </figcaption>
          <CalibrationPlot bins={told.calibration} />
        </figure>
      )}
      {told.lift.length > 0 && (
        <figure class="plot">
          <figcaption class="small">
            <strong>Whom to turn to first?</strong> How many of each tenth of the customers left. The dashed line is the
            share of all: turning to anybody.
          </figcaption>
          <LiftPlot parts={told.lift} />
        </figure>
      )}
      {told.how && <p class="small quiet">How it was tested: {told.how}.</p>}
    </section>
  );
}

/** Features that did not earn their place. */
function Dropped({ results, sentence }: { results: Results; sentence: string }) {
  if (results.dropped.length === 0) return null;
  return (
    <details class="fold">
      <summary>Left out of the method</summary>
      <ul class="notes small quiet">
        {results.dropped.map(({ feature, reason }) => (
          <li key={feature}>{reason === sentence ? featureName(feature) : `${featureName(feature)}: ${reason}`}</li>
        ))}
      </ul>
    </details>
  );
}

/** How the number of groups was chosen, how sure the method is, and what to know of the figures. */
export function Sureness({ results, found }: { results: Results; found: readonly FoundSegment[] }) {
  const { choice, verdict, total, worth, currency, notes, place, evaluation, drivers, churnRate } = results;
  const most = drivers[0]?.loss ?? 1;
  return (
    <>
      {total && currency && (
        <section class="block" aria-labelledby="worth-title">
          <h3 id="worth-title">What all are worth</h3>
          <p>
            <strong class="large">{money(total.worth, currency, true)}</strong>{' '}
            <span class="small quiet">
              expected; in 95 of 100 cases from {money(total.low, currency, true)} to{' '}
              {money(total.high, currency, true)}, as far as the method’s own uncertainty goes
            </span>
          </p>
          <ul class="worths small">
            {worth.map(({ label, worth: part }) => (
              <li key={label}>
                {found.find((row) => row.label === label)?.name}: {money(part, currency, true)}
              </li>
            ))}
          </ul>
        </section>
      )}
      {results.about && results.tested !== null && results.alpha !== null && (
        <section class="block" aria-labelledby="about-title">
          <h3 id="about-title">What makes a spot</h3>
          <p class="small">
            {words(results.about)}, in {counted(results.tested, 'place')} compared with maps on which the same figures
            lie at random. Of the spots that are named at most {Math.round(results.alpha * 100)} in 100 are expected to
            be chance.
          </p>
        </section>
      )}
      {choice && (
        <section class="block" aria-labelledby="choice-title">
          <h3 id="choice-title">{choice.k === 1 ? 'Why one group' : `Why ${choice.k} groups`}</h3>
          <ChoicePlot choice={choice} />
        </section>
      )}
      {evaluation && <Evaluated told={evaluation} />}
      {drivers.length > 0 && (
        <section class="block" aria-labelledby="drivers-title">
          <h3 id="drivers-title">What it goes by</h3>
          <p class="small quiet">How much worse it would do without. What it goes by need not be the cause.</p>
          <ol class="ranked">
            {drivers.slice(0, FEW_DRIVERS).map(({ feature, meaning, loss }) => (
              <li key={feature}>
                <span>{hasName(feature) || !meaning ? featureName(feature) : words(meaning)}</span>
                <span class="ranked-bar" style={{ width: `${(loss / most) * 100}%` }} aria-hidden="true" />
              </li>
            ))}
          </ol>
        </section>
      )}
      {churnRate.length > 0 && (
        <section class="block" aria-labelledby="rate-title">
          <h3 id="rate-title">Who left in the year before</h3>
          {churnRate
            .filter(({ total }) => total)
            .map((row) => (
              <p key={row.sentence} class="small">
                {words(row.sentence)}
              </p>
            ))}
          <details class="fold">
            <summary>By region</summary>
            <ul class="notes small">
              {churnRate
                .filter(({ total }) => !total)
                .map((row) => (
                  <li key={row.sentence}>{row.sentence}</li>
                ))}
            </ul>
          </details>
        </section>
      )}
      {place && (
        <section class="block" aria-labelledby="place-title">
          <h3 id="place-title">Does place help?</h3>
          <figure class="plot">
            <figcaption class="small">{place.sentence}</figcaption>
            <p class="small quiet">
              {place.what
                ? `Compared: ${place.what}.`
                : 'Compared with the same method without place, on parts of the map that it had not seen.'}
            </p>
            <GainPlot measures={place.measures} label="What place adds:" />
          </figure>
          <Dropped results={results} sentence={place.sentence} />
        </section>
      )}
      {(verdict || notes.length > 0) && (
        <section class="block" aria-labelledby="notes-title">
          <h3 id="notes-title">What to know of it</h3>
          {verdict && <p class="small">{verdict}</p>}
          {notes.length > 0 && (
            <details class="fold">
              <summary>{counted(notes.length, 'note')} on the data</summary>
              <ul class="notes small quiet">
                {notes.map((note) => (
                  <li key={note}>{noteWords(note)}</li>
                ))}
              </ul>
            </details>
          )}
        </section>
      )}
    </>
  );
}
