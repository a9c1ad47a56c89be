// Open reports in a real browser: phone and desk, light and dark, and on paper; not part of the suite.
//
//   cd SCRATCH && npm install puppeteer-core axe-core
//   CHROMIUM=/usr/bin/chromium node REPOSITORY/tests/results/browser.mjs report.html...
//
// Writes a picture of each into the current folder, to be looked at. Exits with 1 if a page is wider than its window,
// writes to the console, asks for anything but itself, or has a violation that axe-core finds.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { basename, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const here = createRequire(resolve("from-here.js"));
const puppeteer = here("puppeteer-core");
const axe = readFileSync(here.resolve("axe-core/axe.min.js"), "utf8");
const VIEWS = [
  { name: "phone-light", width: 390, scheme: "light" },
  { name: "phone-dark", width: 390, scheme: "dark" },
  { name: "desk-light", width: 1440, scheme: "light" },
  { name: "desk-dark", width: 1440, scheme: "dark" },
  { name: "paper", width: 718, scheme: "dark", media: "print" }, // A4 without its margins, at 96 dots an inch
];
const problems = [];

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
for (const file of process.argv.slice(2)) {
  for (const view of VIEWS) {
    const told = (words) => problems.push(`${file}, ${view.name}: ${words}`);
    const page = await browser.newPage();
    await page.setBypassCSP(true); // else the page would refuse axe
    page.on("console", (message) => told(`console: ${message.text()}`));
    page.on("pageerror", (error) => told(`error: ${error.message}`));
    page.on("request", (request) => {
      if (!/^(file|data):/.test(request.url())) told(`asks for ${request.url()}`);
    });
    await page.setViewport({ width: view.width, height: 900, deviceScaleFactor: view.width < 500 ? 2 : 1 });
    const features = [{ name: "prefers-color-scheme", value: view.scheme }];
    const devtools = await page.createCDPSession(); // puppeteer's own two calls undo each other
    await devtools.send("Emulation.setEmulatedMedia", { media: view.media ?? "screen", features });
    await page.goto(pathToFileURL(resolve(file)).href);
    const [wide, room] = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      return [scrollWidth, clientWidth];
    });
    if (wide > room) told(`${wide} px wide in ${room}`);
    const picture = `${basename(file, ".html")}-${view.name}`;
    await page.screenshot({ path: `${picture}.png`, fullPage: true });
    if (view.media) await page.pdf({ path: `${picture}.pdf`, format: "A4", margin: { left: "1cm", right: "1cm" } });
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    for (const { id, impact, help, nodes } of violations)
      told(`${impact}: ${help} (${id}): ${nodes.length}, such as ${nodes[0].target} ${nodes[0].html.slice(0, 120)}`);
    await page.close();
  }
}
await browser.close();
console.log(problems.length ? problems.join("\n") : "nothing found.");
process.exit(problems.length ? 1 : 0);
