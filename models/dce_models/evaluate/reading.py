"""x"""

from .join import Asked
from .result import Result
from .situation import Situation


def judge(s: Situation, asked: Asked) -> Result:
    raise NotImplementedError
