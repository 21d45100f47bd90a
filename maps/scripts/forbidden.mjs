// What no source file of the application may contain: ways to turn data into HTML, addresses outside the machine,
// and a second place that talks to the map library. Exits with 1 and the lines at fault.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const rules = [
  [/innerHTML|outerHTML|insertAdjacentHTML|setHTML|dangerouslySetInnerHTML|document\.write/, 'turns text into HTML'],
  [/\beval\(|new Function\(/, 'runs text as code'],
  [/https?:\/\/(?!www\.w3\.org\/|127\.0\.0\.1)/, 'names an address outside the machine'],
];

function* sources(folder) {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) yield* sources(path);
    else if (/\.(ts|tsx|css|html|mjs)$/.test(name) && name !== 'schema.ts') yield path;
  }
}

const faults = [];
for (const folder of ['src', 'public/docs']) {
  for (const path of sources(join(root, folder))) {
    const name = relative(root, path);
    if (/public\/docs\/swagger-ui/.test(name)) continue;
    for (const [index, line] of readFileSync(path, 'utf8').split('\n').entries()) {
      for (const [pattern, reason] of rules) {
        if (pattern.test(line)) faults.push(`${name}:${index + 1} ${reason}: ${line.trim()}`);
      }
      if (/from 'maplibre-gl|import\('maplibre-gl/.test(line) && name !== 'src/map/map.ts') {
        faults.push(`${name}:${index + 1} only src/map/map.ts may import the map library`);
      }
    }
  }
}
if (faults.length > 0) {
  console.error(faults.join('\n'));
  process.exit(1);
}
