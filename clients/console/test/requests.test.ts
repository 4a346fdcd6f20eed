import {describe, expect, it} from "vitest"
import type {Request} from "claude-bridge-client"
import {allow, answerQuestions, deny, editable, editedInput} from "../src/conversation/requests/answers.js"
import {suggestionSays} from "../src/conversation/requests/suggestions.js"

const asked = (more: Partial<Request>): Request => ({
  id: "r1", kind: "permission", turn: "t1", tool: "Bash", input: {command: "date", timeout: 5}, suggestions: [{}, {}],
  opened_at: "2026-01-01T00:00:00.000Z", ...more,
})

describe("what is answered to a permission", () => {
  it("allows what was asked for, and no more", () => {
    expect(allow(asked({}), {edited: null, suggestions: []})).toEqual({decision: "allow"})
    expect(allow(asked({}), {edited: "date", suggestions: []})).toEqual({decision: "allow"})
  })

  it("takes the suggestions that were ticked", () => {
    expect(allow(asked({}), {edited: null, suggestions: [1, 0]})).toEqual({decision: "allow", suggestions: [0, 1]})
  })

  it("runs an edited command with what else was given", () => {
    expect(allow(asked({}), {edited: "date -u", suggestions: []})).toEqual({
      decision: "allow", input: {command: "date -u", timeout: 5},
    })
    expect(allow(asked({}), {edited: "  ", suggestions: []})).toBeNull()
  })

  it("takes any other input as JSON, and says what is wrong with it", () => {
    const read = asked({tool: "Read", input: {file_path: "a"}})
    expect(editable(read)).toEqual({as: "json", text: '{\n  "file_path": "a"\n}'})
    expect(allow(read, {edited: '{"file_path": "b"}', suggestions: []})).toEqual({decision: "allow", input: {file_path: "b"}})
    expect(editedInput(read, "{")).toMatch(/^This is not JSON/)
    expect(editedInput(read, "[1]")).toMatch(/object/)
    expect(allow(read, {edited: "{", suggestions: []})).toBeNull()
  })

  it("denies with a message where there is one", () => {
    expect(deny("  ")).toEqual({decision: "deny"})
    expect(deny(" not now ")).toEqual({decision: "deny", message: "not now"})
  })
})

describe("what is answered to questions", () => {
  const questions = [
    {question: "Which?", header: "H", multiSelect: false, options: [{label: "A", description: ""}, {label: "B", description: ""}]},
    {question: "What else?", header: "E", multiSelect: true, options: [{label: "x"}, {label: "y"}, {label: "z"}]},
  ]
  const question = asked({kind: "question", tool: "AskUserQuestion", input: {questions}})

  it("is the input with the answers, by their questions", () => {
    expect(answerQuestions(question, [{labels: ["B"], other: ""}, {labels: ["z", "x"], other: " mine "}])).toEqual({
      decision: "allow", input: {questions, answers: {"Which?": "B", "What else?": "x, z, mine"}},
    })
  })

  it("may be in one's own words", () => {
    const answer = answerQuestions(question, [{labels: [], other: "neither"}, {labels: ["y"], other: ""}])
    expect(answer?.input?.["answers"]).toEqual({"Which?": "neither", "What else?": "y"})
  })

  it("waits for all of them", () => {
    expect(answerQuestions(question, [{labels: ["B"], other: ""}, {labels: [], other: " "}])).toBeNull()
    expect(answerQuestions(question, [])).toBeNull()
  })
})

describe("a suggestion in words", () => {
  it.each([
    [{type: "addRules", rules: [{toolName: "Bash", ruleContent: "npm test *"}], behavior: "allow", destination: "session"}, "Always allow Bash(npm test *) in this session"],
    [{type: "addRules", rules: [{toolName: "Read"}], behavior: "allow", destination: "localSettings"}, "Always allow Read in this project, for this user (kept)"],
    [{type: "addDirectories", directories: ["/a", "/b"], destination: "session"}, "Let it work in /a, /b, too, in this session"],
    [{type: "setMode", mode: "acceptEdits", destination: "session"}, "From now on allow all edits of files, in this session"],
    [{type: "somethingNew", x: 1}, '{"type":"somethingNew","x":1}'],
  ])("%o", (suggestion, says) => {
    expect(suggestionSays(suggestion)).toBe(says)
  })
})
