import { describe, expect, it } from 'vitest';
import { marksFor, STAGE_MARKS } from '../design/palette';
import { NO_FILTERS } from '../state/model';
import { type Step, steps } from './changes';
import type { StyleSpecification } from './map';
import { NO_SKETCH } from './sketch';
import { type Scene, styleOf } from './style';

const HERE = 'http://127.0.0.1:8000';
const SCENE: Scene = {
  theme: 'light',
  colour: 'stage',
  score: null,
  filters: NO_FILTERS,
  hidden: [],
  marks: new Map(Object.entries(STAGE_MARKS)),
  territoryMarks: marksFor(['ter_1', 'ter_2']),
  territoryLayer: 'lay_sales',
  places: [],
  selected: [],
  origin: null,
  asked: null,
  asking: false,
  found: null,
  counties: false,
  edition: 0,
  sample: [],
  sketch: NO_SKETCH,
  base: null,
};
const drawn = (change: Partial<Scene> = {}) => styleOf({ ...SCENE, ...change }, HERE);

/** What a map does with the steps; refuses what the library would refuse. */
function applied(before: StyleSpecification, todo: readonly Step[]): StyleSpecification {
  const style = structuredClone(before) as StyleSpecification & { layers: StyleSpecification['layers'] };
  const layerOf = (id: string) => {
    const found = style.layers.find((layer) => layer.id === id);
    if (!found) throw new Error(`no layer ${id}`);
    return found;
  };
  for (const step of todo) {
    if (step.do === 'remove layer') {
      layerOf(step.id);
      style.layers = style.layers.filter((layer) => layer.id !== step.id);
    } else if (step.do === 'remove source') {
      if (style.layers.some((layer) => 'source' in layer && layer.source === step.id)) throw new Error('in use');
      delete style.sources[step.id];
    } else if (step.do === 'add source') {
      if (style.sources[step.id]) throw new Error(`${step.id} is there`);
      style.sources[step.id] = step.source;
    } else if (step.do === 'add layer') {
      if (style.layers.some((layer) => layer.id === step.layer.id)) throw new Error(`${step.layer.id} is there`);
      if ('source' in step.layer && !style.sources[String(step.layer.source)]) throw new Error('no source');
      const place = step.before === undefined ? style.layers.length : style.layers.indexOf(layerOf(step.before));
      style.layers.splice(place, 0, step.layer);
    } else if (step.do === 'set data') {
      (style.sources[step.id] as { data?: unknown }).data = step.data;
    } else {
      const layer = layerOf(step.id);
      const part = step.do === 'set paint' ? 'paint' : 'layout';
      const values = { ...(layer[part] as Record<string, unknown> | undefined) };
      if (step.value === undefined) delete values[step.name];
      else values[step.name] = step.value;
      Object.assign(layer, { [part]: values });
    }
  }
  return style;
}

const plain = (style: StyleSpecification) => JSON.parse(JSON.stringify(style));

const SCENES: Record<string, Partial<Scene>> = {
  start: {},
  dark: { theme: 'dark' },
  'coloured by owner': { colour: 'owner', marks: marksFor(['usr_1', 'usr_2']) },
  filtered: { filters: { ...NO_FILTERS, stage: ['active'] } },
  'with counties': { counties: true },
  'without territories': { territoryLayer: null },
  'another layer': { territoryLayer: 'lay_service' },
  hidden: { hidden: ['customers', 'territories'] },
  'with marks': {
    selected: [{ lon: 1, lat: 2, precision_m: 25 }],
    origin: { lon: 1, lat: 2, radius_m: 500 },
    asked: { lon: 3, lat: 4 },
  },
  'own basemap': { base: { version: 8, sources: {}, layers: [{ id: 'ground', type: 'background' }] } },
  'loaded again': { edition: 3 },
};

describe.each(Object.entries(SCENES))('from %s', (_, from) => {
  it.each(Object.entries(SCENES))('to %s', (__, to) => {
    const [before, after] = [drawn(from), drawn(to)];
    expect(plain(applied(before, steps(before, after)))).toEqual(plain(after));
  });
});

describe('what does not change', () => {
  it('is left alone', () => {
    expect(steps(drawn(), drawn())).toEqual([]);
  });

  it('costs no load of the basemap, whatever else happens', () => {
    for (const change of [SCENES.dark, SCENES.filtered, SCENES.hidden, SCENES['with marks'], SCENES['with counties']]) {
      const todo = steps(drawn(), drawn(change));
      const loads = todo.flatMap((step) => (step.do === 'add source' ? [step.id] : []));
      expect(loads.filter((id) => id !== 'counties' && id !== 'customers')).toEqual([]);
    }
  });

  it('a filter asks for other customers and nothing else', () => {
    const todo = steps(drawn(), drawn(SCENES.filtered));
    expect(todo.flatMap((step) => ('id' in step && step.do.endsWith('source') ? [step.id] : []))).toEqual([
      'customers',
      'customers',
    ]);
  });
});
