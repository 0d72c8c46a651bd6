"""One conversation with a tool call through langchain-openai; run by its own interpreter: BASE_URL → the last text."""

import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def look_up(id: int) -> str:  # noqa: A002 -- the tool's own argument
    """Looks an order up."""
    return f"order {id} found"


model = ChatOpenAI(model="gpt-4.1", base_url=sys.argv[1], api_key="sk-client", max_retries=0)
talk = [HumanMessage("hello")]
called = model.bind_tools([look_up]).invoke(talk)
talk += [called, *(ToolMessage(look_up.invoke(call["args"]), tool_call_id=call["id"]) for call in called.tool_calls)]
sys.stdout.write("".join(str(part.content) for part in model.stream(talk)))
