"""The plan: what a spec would do, stage by stage, without training. The same tables drive the loop."""

from finetune.plan.fields import Plan as Plan
from finetune.plan.making import make_plan as make_plan
