import {useState} from "react"
import {questionsOf, type Question as Asked} from "../tools/says.js"
import {answerQuestions, deny, type Choice} from "./answers.js"
import type {CardProps} from "./card.js"

const NONE: Choice = {labels: [], other: ""}

export function Question({request, busy, answer, keys}: CardProps) {
  const questions = questionsOf(request.input)
  const [choices, setChoices] = useState<readonly Choice[]>(() => questions.map(() => NONE))
  const made = answerQuestions(request, choices)
  keys({a: () => made !== null && answer(made), d: () => answer(deny(""))})
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault()
        if (made !== null) answer(made)
      }}
    >
      {questions.map((asked, i) => (
        <OneQuestion
          key={i} name={`${request.id}-${i}`} asked={asked} choice={choices[i] ?? NONE}
          onChoice={(choice) => setChoices(choices.map((c, at) => (at === i ? choice : c)))}
        />
      ))}
      <div className="request-actions">
        <button className="primary" disabled={busy || made === null}>Answer</button>
        <button type="button" disabled={busy} onClick={() => answer(deny("The person does not want to answer this."))}>Do not answer</button>
      </div>
    </form>
  )
}

interface OneProps {
  readonly name: string
  readonly asked: Asked
  readonly choice: Choice
  readonly onChoice: (choice: Choice) => void
}

function OneQuestion({name, asked, choice, onChoice}: OneProps) {
  const {question, header, options, multiSelect} = asked
  const choose = (label: string, on: boolean): void => {
    const labels = multiSelect ? [...choice.labels.filter((l) => l !== label), ...(on ? [label] : [])] : [label]
    onChoice({labels, other: multiSelect ? choice.other : ""})
  }
  return (
    <fieldset className="request-choices">
      <legend>{header !== "" && <span className="note">{header} </span>}{question}</legend>
      {options.map(({label, description}) => (
        <label key={label}>
          <input
            type={multiSelect ? "checkbox" : "radio"} name={name} checked={choice.labels.includes(label)}
            onChange={(event) => choose(label, event.target.checked)}
          />
          <span>{label}{description !== "" && <span className="note"> {description}</span>}</span>
        </label>
      ))}
      <input
        value={choice.other} placeholder={multiSelect ? "Something else as well" : "Something else"} aria-label={`Something else: ${question}`}
        onChange={(event) => onChoice({labels: multiSelect ? choice.labels : [], other: event.target.value})}
      />
    </fieldset>
  )
}
