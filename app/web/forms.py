"""Which form of a visit does an address mean? Its code, and from the second time on its number: falls, falls/2."""

from starlette.convertors import Convertor, register_url_convertor


class _FormName(Convertor[str]):
    """One part of an address, or two of which the second is a number: what `capture.rules.named_form` takes apart."""

    regex = "[^/]+(?:/[0-9]{1,3})?"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("form", _FormName())

ENTRY = "/{study}/participants/{code}/visits/{visit}/entries/{instrument:form}"
