// Packs the package and, for each native module that is in native/, its platform package.
//   node scripts/pack.mjs DIRECTORY
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL("..", import.meta.url));
const out = resolve(process.argv[2]);
// napi writes within the package alone.
const stage = join(here, "npm");
const run = (command, args, cwd) => execFileSync(command, args, { cwd, stdio: ["ignore", "pipe", "inherit"] });

rmSync(stage, { recursive: true, force: true });
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
try {
  run("npx", ["--no-install", "napi", "create-npm-dirs", "--npm-dir", "npm"], here);
  const packed = {};
  for (const platform of readdirSync(stage)) {
    const file = `agentkey.${platform}.node`;
    if (!existsSync(join(here, "native", file))) continue;
    const directory = join(stage, platform);
    cpSync(join(here, "native", file), join(directory, file));
    cpSync(join(here, "LICENSE"), join(directory, "LICENSE"));
    const { name, version } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
    run("npm", ["pack", "--silent", "--pack-destination", out], directory);
    packed[name] = version;
  }
  if (Object.keys(packed).length === 0) throw new Error("native/ holds no module: run npm run build first");

  const loader = join(stage, "loader");
  const { devDependencies: _, scripts: __, ...manifest } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
  for (const file of [...manifest.files, "README.md"]) cpSync(join(here, file), join(loader, file), { recursive: true });
  // Only what was built can be installed.
  writeFileSync(join(loader, "package.json"), JSON.stringify({ ...manifest, optionalDependencies: packed }, null, 2));
  run("npm", ["pack", "--silent", "--pack-destination", out], loader);
  console.log(readdirSync(out).join("\n"));
} finally {
  rmSync(stage, { recursive: true, force: true });
}
