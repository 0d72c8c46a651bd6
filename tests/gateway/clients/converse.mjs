// One conversation with a tool call through the Vercel AI SDK: BASE_URL and its node_modules → the last text.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , baseURL, modules] = process.argv;
const require = createRequire(`${modules}/`);
const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
const { generateText, tool, jsonSchema, isStepCount, stepCountIs } = await load("ai");
const { createOpenAI } = await load("@ai-sdk/openai");
const openai = createOpenAI({ baseURL, apiKey: "sk-client" });
const lookUp = tool({
  description: "Looks an order up.",
  inputSchema: jsonSchema({ type: "object", properties: { id: { type: "number" } } }),
  execute: async ({ id }) => `order ${id} found`,
});
const found = await generateText({
  model: openai.chat("gpt-4.1"),
  prompt: "hello",
  tools: { look_up: lookUp },
  stopWhen: (stepCountIs ?? isStepCount)(3),
  maxRetries: 0,
});
process.stdout.write(found.text);
