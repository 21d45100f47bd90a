// Writes src/schema.ts from the description of the API and compiles to dist/. Runs whenever the package is installed from
// a checkout, also as a dependency of another one: then its tools are installed first.

import { execSync } from 'node:child_process';
import { existsSync } from 'node:fs';

const run = (command) => execSync(command, { stdio: ['ignore', process.stderr, process.stderr] });
if (!existsSync('node_modules/openapi-typescript')) run('npm ci --ignore-scripts --no-audit --no-fund');
run('npx --no-install openapi-typescript ../../maps/openapi.json -o src/schema.ts');
run('npx --no-install tsc');
