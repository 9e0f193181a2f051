import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Databases and Express servers of several files at once are enough for two cores.
    maxWorkers: 2,
    // What is tested is the package as it is published, through its own exports.
    server: { deps: { external: [/\/dist\//, /\/native\//] } },
  },
});
