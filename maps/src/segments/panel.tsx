/** Segments: the list of segmentations, a new one, or one with its runs. */

import { useEffect, useRef } from 'preact/hooks';
import { Empty, Failed, Loading } from '../components/states';
import { Icon } from '../design/icons';
import { counted } from '../format';
import { sheet } from '../state/screen';
import { company, loadCompany } from '../state/session';
import { show, state } from '../state/store';
import { CreatePanel } from './create';
import { DetailPanel } from './detail';
import { may } from './state';
import { methodWords, standing } from './words';
import './segments.css';

export function open(segmentation: string | null): void {
  if (sheet.value === 'peek') sheet.value = 'half';
  show({ segmentation, run: null });
}

export function SegmentsPanel() {
  const { status, problem, segmentations } = company.value;
  const { segmentation } = state.value;
  const last = useRef<string | null>(null);
  // A page that was opened begins at its top, where its heading is.
  useEffect(() => {
    document.querySelector('.panel-scroll:not([hidden])')?.scrollTo({ top: 0 });
    const from = last.current;
    last.current = segmentation;
    if (segmentation) document.getElementById('segments-title')?.focus({ preventScroll: true });
    // Back in the list the keyboard goes on where it came from.
    else if (from) document.getElementById(`open-${from}`)?.focus({ preventScroll: true });
  }, [segmentation]);
  if (status === 'failed' && problem) return <Failed problem={problem} again={() => void loadCompany()} />;
  if (status === 'loading') return <Loading what="segments" lines={6} />;
  if (segmentation === null) return <List />;
  return (
    <div class="blocks">
      <button type="button" class="button plain back" onClick={() => open(null)}>
        <Icon name="back" />
        All segmentations
      </button>
      {segmentation.startsWith('new') ? (
        <CreatePanel method={segmentation.split('.')[1] ?? null} />
      ) : (
        <DetailPanel
          key={segmentation}
          id={segmentation}
          known={segmentations.find(({ id }) => id === segmentation) ?? null}
        />
      )}
    </div>
  );
}

function List() {
  const { segmentations } = company.value;
  const writes = may('segmentations:write');
  return (
    <div class="blocks">
      {segmentations.length === 0 ? (
        <Empty title="No segmentations yet">
          <p>
            A segmentation divides customers into segments by how they buy and where they are: your best ones, those who
            drift away, those who live close to a shop.
          </p>
          {writes ? (
            <p>Begin with “Recency, frequency, money”: it needs nothing but sales.</p>
          ) : (
            <p>An administrator, a marketer or an analyst can create one.</p>
          )}
        </Empty>
      ) : (
        <ul class="segmentations">
          {segmentations.map((row) => {
            const { word } = standing(row);
            return (
              <li key={row.id}>
                <button type="button" id={`open-${row.id}`} class="segmentation" onClick={() => open(row.id)}>
                  <strong>{row.name}</strong>
                  <span class={row.is_active ? 'badge strong' : 'badge'}>{word}</span>
                  <span class="small quiet">
                    {methodWords(row.method).name}
                    {row.segments.length > 0 && ` · ${counted(row.segments.length, 'segment')}`}
                  </span>
                </button>
              </li>
            );
          })}
        </ul>
      )}
      {writes && (
        <button type="button" class="button primary" onClick={() => open('new')}>
          <Icon name="plus" />
          New segmentation
        </button>
      )}
      {segmentations.length > 0 && (
        <p class="small quiet">
          The one that is “On the map” colours everybody’s map under Map › Colour by › Segment. All others can be
          filtered by, and every published score colours it under Score.
        </p>
      )}
    </div>
  );
}
