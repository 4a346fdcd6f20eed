/**
 * For the tests of whoever builds on this client: a bridge without a wire or a process, which the test plays.
 *
 *     const fake = new FakeBridge()
 *     const bridge = fake.connect()
 *     const session = bridge.session("research", {start: {}})
 *     const turn = await session.submit("What is new?")
 *     ;(await fake.expectSubmit()).replyWith("Nothing.")
 *     expect(await turn.text()).toBe("Nothing.")
 */

export {FakeBridge, type Opened, type Patience} from "./testing/bridge.js"
export {Submitted, type ReplyOptions} from "./testing/submitted.js"
export type {FakeSession} from "./testing/conversation.js"
